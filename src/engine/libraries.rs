//! The versions of the libraries that compute.

use std::ffi::{CStr, c_char};
use std::fmt;

/// The libraries that this process computes with, by version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libraries {
    libtorch: String,
    /// The CUDA runtime and cuDNN. Absent where the CUDA libraries are not loaded.
    cuda: Option<(String, String)>,
}

impl Libraries {
    /// Asks the libraries of this process. The CUDA libraries answer if they have been loaded ([`crate::cuda::load`]).
    pub fn of_this_process() -> Self {
        let (mut cuda, mut cudnn) = (-1, -1);
        // SAFETY: the arguments point to live numbers. The caller owns the returned text, which is never null.
        #[expect(unsafe_code, reason = "functions of torch/shim.cpp")]
        let config = unsafe {
            engine_cuda_versions(&raw mut cuda, &raw mut cudnn);
            let text = engine_config();
            let config = CStr::from_ptr(text).to_string_lossy().into_owned();
            libc::free(text.cast());
            config
        };
        let version = config.split("TORCH_VERSION=").nth(1).and_then(|rest| rest.split(',').next());
        let libtorch = version.unwrap_or("unknown").trim().to_owned();
        let cuda = (cuda > 0).then(|| (format!("{}.{}", cuda / 1000, cuda % 1000 / 10), cudnn_version(cudnn)));
        Self { libtorch, cuda }
    }
}

impl fmt::Display for Libraries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.libtorch)?;
        match &self.cuda {
            Some((cuda, cudnn)) => write!(f, ", CUDA {cuda}, cuDNN {cudnn}"),
            None => Ok(()),
        }
    }
}

/// cuDNN 9 writes 9.19.2 as 91902, earlier versions wrote 8.9.7 as 8907.
fn cudnn_version(number: i64) -> String {
    let thousand = if number >= 90_000 { 10_000 } else { 1000 };
    match number {
        0.. => format!("{}.{}.{}", number / thousand, number % thousand / 100, number % 100),
        _ => "unknown".to_owned(),
    }
}

#[expect(unsafe_code, reason = "functions of torch/shim.cpp")]
unsafe extern "C" {
    fn engine_config() -> *mut c_char;
    fn engine_cuda_versions(cuda: *mut i64, cudnn: *mut i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_names_its_own_version() {
        let found = Libraries::of_this_process();
        let numbers: Vec<&str> = found.libtorch.split('.').collect();
        assert!(numbers.len() == 3 && numbers[..2].iter().all(|number| number.parse::<u32>().is_ok()), "{found}");
        assert_eq!(found.cuda.is_some(), crate::cuda::load().is_ok());
    }

    #[test]
    fn versions_are_read_from_their_numbers() {
        assert_eq!([91902, 8907, -1].map(cudnn_version), ["9.19.2", "8.9.7", "unknown"]);
        let cuda = Some(("13.0".to_owned(), "9.19.2".to_owned()));
        let libraries = Libraries { libtorch: "2.11.0".to_owned(), cuda };
        assert_eq!(libraries.to_string(), "2.11.0, CUDA 13.0, cuDNN 9.19.2");
    }
}
