//! A count of the operations that would be launched on a GPU, made on any device.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};

/// The operations of a piece of work, by name, without views and allocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchCount(BTreeMap<String, i64>);

impl LaunchCount {
    /// Counts the operations that `work` launches in this thread, with those of backward passes on the CPU.
    ///
    /// # Panics
    /// Panics if `work` panics, and then counts on.
    pub fn of(work: impl FnOnce()) -> Self {
        // SAFETY: the callback that is added is removed below, and belongs to this thread.
        #[expect(unsafe_code, reason = "a function of launches.cpp")]
        let handle = unsafe { engine_count_launches() };
        work();
        // SAFETY: the handle is that of the callback. The caller owns the returned text, which is never null.
        #[expect(unsafe_code, reason = "a function of launches.cpp")]
        let lines = unsafe {
            let text = engine_end_count(handle);
            let lines = CStr::from_ptr(text).to_string_lossy().into_owned();
            libc::free(text.cast());
            lines
        };
        let line = |line: &str| {
            let (name, times) = line.rsplit_once(' ').expect("a line is a name and a number");
            (name.to_owned(), times.parse().expect("a count is a number"))
        };
        Self(lines.lines().map(line).collect())
    }

    /// The number of launches.
    pub fn total(&self) -> i64 {
        self.0.values().sum()
    }

    /// The number of launches of the operation `name`, such as `aten::mm`.
    pub fn of_operation(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Runs the CPU's form of an operation that a GPU computes in one launch, and counts it as one, under `name`.
pub fn as_one_launch<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let name = CString::new(name).expect("a name has no zero byte");
    // SAFETY: the name is a C string. The functions change counters of this thread.
    #[expect(unsafe_code, reason = "functions of launches.cpp")]
    unsafe {
        engine_begin_one_launch(name.as_ptr());
    }
    let result = work();
    #[expect(unsafe_code, reason = "functions of launches.cpp")]
    // SAFETY: the count began above.
    unsafe {
        engine_end_one_launch();
    }
    result
}

#[expect(unsafe_code, reason = "functions of launches.cpp")]
unsafe extern "C" {
    fn engine_count_launches() -> u64;
    fn engine_end_count(handle: u64) -> *mut c_char;
    fn engine_begin_one_launch(name: *const c_char);
    fn engine_end_one_launch();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn an_operation_counts_once_and_views_do_not() {
        let x = Tensor::ones([4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let forward = LaunchCount::of(|| {
            let y = x.narrow(0, 0, 2).view([8]).unsqueeze(0).transpose(0, 1) * 2.0;
            let _ = y.to_kind(Kind::Float).contiguous();
        });
        assert_eq!(forward, LaunchCount(BTreeMap::from([("aten::mul".to_owned(), 1)])));
        let both = LaunchCount::of(|| x.matmul(&x).silu().sum(Kind::Float).backward());
        assert_eq!(both.of_operation("aten::mm"), 3, "{both:?}");
        assert_eq!(both.of_operation("aten::silu_backward"), 1, "{both:?}");
        assert_eq!(LaunchCount::of(|| {}).total(), 0);
    }

    #[test]
    fn parts_of_one_launch_do_not_count() {
        let x = Tensor::ones([2], (Kind::Float, Device::Cpu));
        let count = LaunchCount::of(|| {
            let y = as_one_launch("attention", || (&x + 1.0) * 2.0);
            let _ = y.exp();
        });
        assert_eq!((count.of_operation("attention"), count.total()), (1, 2), "{count:?}");
    }
}
