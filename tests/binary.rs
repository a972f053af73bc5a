//! What the built binary links.

use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _};
use object::{Endianness, elf};

/// Names of the shared libraries that the dynamic loader brings in before `main`.
fn needed_libraries(binary: &[u8]) -> Vec<String> {
    let file = ElfFile64::<Endianness>::parse(binary).expect("a 64-bit ELF file");
    let endian = file.endian();
    let header = file.elf_header();
    let sections = header.sections(endian, binary).expect("section headers");
    let (dynamic, strings) =
        sections.dynamic(endian, binary).expect("a readable dynamic section").expect("a dynamic section");
    let strings = sections.strings(endian, binary, strings).expect("the dynamic section's strings");
    let needed = dynamic.iter().filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED));
    needed
        .map(|entry| String::from_utf8_lossy(entry.string(endian, strings).expect("a name")).into_owned())
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
