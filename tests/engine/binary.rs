//! The contents of the worker's binary for releases.

use object::elf;
use object::endian::Endianness;
use object::read::elf::{ElfFile64, FileHeader as _};

#[test]
fn the_worker_names_no_folder_of_the_machine_it_was_built_on() {
    let binary = fs_err::read(env!("CARGO_BIN_EXE_orchestrate-worker")).expect("the worker is built");
    let file = ElfFile64::<Endianness>::parse(&*binary).expect("a 64-bit ELF file");
    let sections = file.elf_header().sections(file.endian(), &*binary).expect("section headers");
    let dynamic = sections.dynamic_table(file.endian(), &*binary).expect("a dynamic section");
    let paths: Vec<String> = dynamic
        .iter()
        .filter(|entry| [elf::DT_RUNPATH, elf::DT_RPATH].contains(&entry.tag))
        .map(|entry| String::from_utf8_lossy(dynamic.string(entry).expect("a path")).into_owned())
        .collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    for path in paths[0].split(':') {
        assert!(path.starts_with("$ORIGIN/"), "`{path}` of {paths:?} is the path of one machine");
    }
    if cfg!(debug_assertions) {
        return; // only release builds are published
    }
    let names: Vec<String> = sections
        .iter()
        .map(|section| {
            String::from_utf8_lossy(sections.section_name(file.endian(), section).unwrap_or_default()).into_owned()
        })
        .collect();
    assert!(names.iter().any(|name| name == ".text"), "reading the sections failed: {names:?}");
    let symbols = names.iter().find(|name| *name == ".symtab" || name.starts_with(".debug"));
    assert_eq!(symbols, None, "a release is stripped");
}
