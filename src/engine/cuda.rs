//! libtorch's CUDA libraries and the driver below them.
//!
//! The worker is linked to libtorch's CPU libraries only, so that one binary serves machines with and without a GPU.
//! The CUDA libraries are loaded when a GPU may be used: they map several GB, which a stage on the CPU need not wait
//! for.

use orchestrate_core::exec::CudaProblem;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::OnceLock;
use tch::{Cuda, Device, Kind, Tensor};

/// Variables that libtorch and cuBLAS read at their first use, and the values they need.
///
/// - cuDNN's attention builds a plan for every new shape, which takes up to half a second. Its backward pass can return
///   NaN for a mask (pytorch#196678). Training and decoding have new shapes all the time, so flash attention comes
///   first.
/// - cuBLAS repeats its bits only with a workspace of a fixed size.
const VARIABLES: [(&str, &str); 2] = [("TORCH_CUDNN_SDPA_DEPRIORITIZED", "1"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")];

/// The outcome of [`load`].
static LOADED: OnceLock<Result<(), CudaProblem>> = OnceLock::new();

/// Sets the environment variables of the CUDA libraries, unless the user has set them. Call this first in `main`: it
/// must not run beside another thread.
pub fn set_variables() {
    for (name, value) in VARIABLES {
        if std::env::var_os(name).is_none() {
            // SAFETY: no other thread has been started, so nothing reads the environment meanwhile.
            #[expect(unsafe_code, reason = "setting a variable is unsafe where threads run")]
            unsafe {
                std::env::set_var(name, value);
            }
        }
    }
}

/// Loads libtorch's CUDA libraries if they are on the library path. Later calls return the outcome of the first.
///
/// # Errors
/// Returns the reason why the libraries could not be loaded.
pub fn load() -> Result<(), CudaProblem> {
    const NAME: &CStr = c"libtorch_cuda.so";
    let load = || {
        // libtorch_cuda registers its kernels on load, in symbols that libtorch_cpu must see
        open_library(NAME, libc::RTLD_NOW | libc::RTLD_GLOBAL).map(|_| ()).map_err(|reason| {
            // the loader's message begins with the library that failed: this one or one of its dependencies
            let absent = reason.starts_with("libtorch_cuda.so: cannot open shared object file");
            if absent { CudaProblem::LibraryMissing } else { CudaProblem::LibraryUnloadable(reason) }
        })
    };
    LOADED.get_or_init(load).clone()
}

/// Returns the number of GPUs that libtorch sees, at least one.
///
/// # Errors
/// Returns the reason why libtorch sees none.
pub fn count() -> Result<usize, CudaProblem> {
    load()?;
    let count = if Cuda::is_available() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 };
    if count > 0 {
        return Ok(count);
    }
    let driver = open_library(c"libcuda.so.1", libc::RTLD_NOW).map_err(CudaProblem::DriverMissing)?;
    Err(CudaProblem::NoDevice(driver_status(driver)))
}

/// Returns the attention kernel that libtorch chooses on `device` for the shapes of training, of a shared prefix and of
/// decoding.
pub fn attention_kernels(device: Device) -> BTreeMap<&'static str, &'static str> {
    let zeros = |size: [i64; 4]| Tensor::zeros(size, (Kind::BFloat16, device)); // (B, H, T, D)
    let kernel = |q: [i64; 4], keys: i64, masked: bool| {
        let (q, k) = (zeros(q), zeros([q[0], q[1], keys, q[3]]));
        let mask = masked.then(|| Tensor::zeros([q.size()[2], keys], (Kind::BFloat16, device)));
        match Tensor::internal_fused_sdp_choice(&q, &k, &k, mask.as_ref(), 0.0, !masked, None, false) {
            0 => "math",
            1 => "flash",
            2 => "memory-efficient",
            3 => "cuDNN",
            _ => "none",
        }
    };
    BTreeMap::from([
        ("causal", kernel([1, 32, 300, 128], 300, false)),
        ("shared prefix", kernel([1, 8, 1200, 128], 812, true)),
        ("decoding", kernel([48, 8, 4, 128], 600, true)),
    ])
}

/// Returns the product name of a GPU, such as `NVIDIA H200`. Returns `None` for the CPU or if the driver does not
/// report it.
pub fn name(device: Device) -> Option<String> {
    let Device::Cuda(index) = device else { return None };
    let driver = open_library(c"libcuda.so.1", libc::RTLD_NOW).ok()?;
    let (get, name) = (function(driver, c"cuDeviceGet")?, function(driver, c"cuDeviceGetName")?);
    let (mut handle, mut text) = (0, [0u8; 128]);
    // SAFETY: the CUDA driver API declares `cuDeviceGet(CUdevice *, int)` and `cuDeviceGetName(char *, int, CUdevice)`,
    // where CUdevice is an int. Both return 0 for success. The pointers are to live variables, and the name is cut at
    // the given length. libtorch has initialized the driver.
    #[expect(unsafe_code, reason = "tch has no binding of a device's name")]
    let status = unsafe {
        let get = std::mem::transmute::<NonNull<libc::c_void>, unsafe extern "C" fn(*mut i32, i32) -> i32>(get);
        let name = std::mem::transmute::<NonNull<libc::c_void>, unsafe extern "C" fn(*mut u8, i32, i32) -> i32>(name);
        get(&raw mut handle, i32::try_from(index).ok()?) | name(text.as_mut_ptr(), 128, handle)
    };
    let text = CStr::from_bytes_until_nul(&text).ok()?.to_string_lossy().into_owned();
    (status == 0 && !text.is_empty()).then_some(text)
}

/// Returns the bytes of GPU memory in use by all processes. Returns `None` for the CPU or if the CUDA runtime does not
/// report them.
pub fn memory_used(device: Device) -> Option<u64> {
    let Device::Cuda(index) = device else { return None };
    let (set_device, memory) = (symbol(c"cudaSetDevice")?, symbol(c"cudaMemGetInfo")?);
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: the CUDA runtime API declares `cudaSetDevice(int)` and `cudaMemGetInfo(size_t *free, size_t *total)`.
    // Both return an int that is 0 for success. The pointers are to live variables.
    #[expect(unsafe_code, reason = "tch has no binding of the memory that is left")]
    let status = unsafe {
        let set_device = std::mem::transmute::<NonNull<libc::c_void>, unsafe extern "C" fn(i32) -> i32>(set_device);
        let memory =
            std::mem::transmute::<NonNull<libc::c_void>, unsafe extern "C" fn(*mut usize, *mut usize) -> i32>(memory);
        set_device(i32::try_from(index).ok()?) | memory(&raw mut free, &raw mut total)
    };
    (status == 0).then(|| total.saturating_sub(free) as u64)
}

/// Returns a function of a library that is already loaded.
fn symbol(name: &CStr) -> Option<NonNull<libc::c_void>> {
    look_up(libc::RTLD_DEFAULT, name)
}

/// Returns a function of an open library.
fn function(library: NonNull<libc::c_void>, name: &CStr) -> Option<NonNull<libc::c_void>> {
    look_up(library.as_ptr(), name)
}

fn look_up(library: *mut libc::c_void, name: &CStr) -> Option<NonNull<libc::c_void>> {
    // SAFETY: `library` is an open library or stands for all of them, and the name is a C string.
    #[expect(unsafe_code, reason = "symbols are looked up through dlsym")]
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    NonNull::new(found)
}

/// Returns the status that the driver reports when it is initialized.
fn driver_status(driver: NonNull<libc::c_void>) -> String {
    let Some(symbol) = function(driver, c"cuInit") else { return "libcuda.so.1 has no cuInit".to_owned() };
    // SAFETY: the CUDA driver API declares `CUresult cuInit(unsigned int flags)`; flags must be 0.
    #[expect(unsafe_code, reason = "a symbol becomes a function only so")]
    let code = unsafe { std::mem::transmute::<NonNull<libc::c_void>, unsafe extern "C" fn(u32) -> i32>(symbol)(0) };
    let meaning = match code {
        0 => "the driver works, but shows libtorch no device",
        100 => "no device is visible",
        803 => "the kernel's driver and libcuda.so.1 are of different versions",
        804 => "the driver is too old for this device's compatibility mode",
        _ => "the driver cannot be started",
    };
    format!("{meaning} (cuInit: {code})")
}

/// Opens a shared library for the rest of the process, or returns the loader's error message.
fn open_library(name: &CStr, flags: libc::c_int) -> Result<NonNull<libc::c_void>, String> {
    // SAFETY: loading a shared library runs its initializers. Those of libtorch and the CUDA driver have no
    // preconditions. The handle is never closed.
    #[expect(unsafe_code, reason = "dlopen has no safe form")]
    let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
    NonNull::new(handle).ok_or_else(|| {
        // SAFETY: dlerror returns a valid string or null, and no other thread uses the loader here.
        #[expect(unsafe_code, reason = "the reason is only to be had through dlerror")]
        let reason = unsafe {
            let text = libc::dlerror();
            if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
        };
        reason.unwrap_or_else(|| format!("{} cannot be loaded", name.to_string_lossy()))
    })
}
