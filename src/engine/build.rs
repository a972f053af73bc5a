//! Compiles the C++ shim against libtorch's headers, and gives the worker the places of libtorch at run time. They are relative
//! to its own, so that it holds no path of the machine it was built on.

use std::path::PathBuf;

/// From the folder of a program: a release, the checkout it was built in, and that of its tests.
const LIBRARIES: [&str; 3] = ["libtorch/lib", "../../.libtorch/lib", "../../../.libtorch/lib"];

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
        .file("torch/shim.cpp")
        .define("NDEBUG", None) // as libtorch was built: some of its classes have more members without
        .opt_level(1) // it only calls libtorch
        .debug(false)
        .warnings(false) // libtorch's headers have many
        .compile("engine_shim");
    for library in LIBRARIES {
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/{library}");
    }
}
