//! Lets the worker and the engine's tests find libtorch at run time: first beside the checkout (so that the folder
//! can move), then where it was at build time (a user's own `LIBTORCH`).

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    for up in ["../..", "../../.."] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/{up}/.libtorch/lib");
    }
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
}
