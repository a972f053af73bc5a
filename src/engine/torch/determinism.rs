//! The choice between the fastest algorithms and those whose results repeat to the bit.

use tch::Device;

/// A time in which libtorch takes only algorithms whose results repeat to the bit, in all threads.
///
/// Kernels of a GPU may add numbers in any order, above all the backward pass of attention. It is not set while tokens
/// are decoded, where all kernels repeat and some of the others would be slower. On a CPU all algorithms of the engine
/// repeat.
#[derive(Debug)]
pub struct Deterministic(());

impl Deterministic {
    /// Begins the time if it is wanted and `device` is a GPU.
    pub fn begin(wanted: bool, device: Device) -> Option<Self> {
        (wanted && device.is_cuda()).then(Self::anywhere)
    }

    /// Begins the time on any device.
    fn anywhere() -> Self {
        set(true);
        Self(())
    }
}

impl Drop for Deterministic {
    fn drop(&mut self) {
        set(false);
    }
}

fn set(deterministic: bool) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn it_lasts_until_it_is_dropped_and_is_left_out_on_a_cpu() {
        // an operation whose result depends on the order of its writes, so libtorch refuses it meanwhile
        let refused = || {
            let mut x = Tensor::ones([4], (Kind::Float, Device::Cpu));
            x.f_put_(&Tensor::from_slice(&[0i64, 0]), &Tensor::ones([2], (Kind::Float, Device::Cpu)), false).is_err()
        };
        assert!(!refused());
        let during = Deterministic::anywhere();
        assert!(refused());
        drop(during);
        assert!(!refused());
        assert!(Deterministic::begin(true, Device::Cpu).is_none());
        assert!(Deterministic::begin(false, Device::Cuda(0)).is_none());
    }
}
