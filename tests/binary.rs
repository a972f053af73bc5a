//! The shared libraries that the built binary links.

use object::elf;
use object::endian::Endianness;
use object::read::elf::{ElfFile64, FileHeader as _};

/// Returns the names of the shared libraries that the dynamic loader loads before `main`.
fn needed_libraries(binary: &[u8]) -> Vec<String> {
    let file = ElfFile64::<Endianness>::parse(binary).expect("a 64-bit ELF file");
    let sections = file.elf_header().sections(file.endian(), binary).expect("section headers");
    let dynamic = sections.dynamic_table(file.endian(), binary).expect("a dynamic section");
    dynamic
        .iter()
        .filter(|entry| entry.tag == elf::DT_NEEDED)
        .map(|entry| String::from_utf8_lossy(dynamic.string(entry).expect("a name")).into_owned())
        .collect()
}

#[test]
fn orchestrate_does_not_link_libtorch() {
    let binary = fs_err::read(env!("CARGO_BIN_EXE_orchestrate")).expect("the binary is built");
    let needed = needed_libraries(&binary);
    assert!(needed.iter().any(|name| name.starts_with("libc.so")), "reading NEEDED entries failed: {needed:?}");
    for library in &needed {
        let heavy = ["torch", "c10", "cuda", "gomp"].iter().any(|name| library.contains(name));
        assert!(!heavy, "`orchestrate` needs {library}; all: {needed:?}");
    }
}
