//! Compiles the C++ shim against libtorch's headers, and sets the worker's run-time paths to libtorch. The paths are
//! relative to the worker, so it contains no path of the machine it was built on.

use std::path::PathBuf;

/// Paths from a program's folder to libtorch: in a release, in the checkout, and for the checkout's tests.
const LIBRARIES: [&str; 3] = ["libtorch/lib", "../../.libtorch/lib", "../../../.libtorch/lib"];

/// The files of the shim.
const FILES: [&str; 6] = ["shim", "adapted_linear", "attention", "graph", "launches", "lists"];

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=torch");
    let libtorch = std::env::var_os("LIBTORCH").map(PathBuf::from).expect("`.cargo/config.toml` sets LIBTORCH");
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(FILES.map(|name| format!("torch/{name}.cpp")))
        .define("NDEBUG", None) // as in libtorch's own build; without it, some of its classes have more members
        .opt_level(1) // the shim only calls libtorch
        .debug(false)
        .warnings(false) // libtorch's headers have many
        .compile("engine_shim");
    for library in LIBRARIES {
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/{library}");
    }
}
