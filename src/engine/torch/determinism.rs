//! The switch between fast algorithms and those whose results repeat to the bit.

/// Makes libtorch take only algorithms whose results repeat to the bit, in all threads, or any algorithm. On a CPU all
/// algorithms that the engine uses repeat.
pub fn set_deterministic(deterministic: bool) {
    // SAFETY: the function sets fields of libtorch's context.
    #[expect(unsafe_code, reason = "a function of shim.cpp")]
    unsafe {
        engine_set_deterministic(deterministic);
    }
}

#[expect(unsafe_code, reason = "a function of shim.cpp")]
unsafe extern "C" {
    fn engine_set_deterministic(deterministic: bool);
}
