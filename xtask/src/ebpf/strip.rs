//! Taking out of the object what the loader does not read.
//!
//! Done here and not by a tool of the toolchain, so that it is the same with each.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};
use object::{Object, ObjectSymbol, SymbolKind};

/// Without debug information: it is nine tenths of the object, and names paths of the machine that built it. The type
/// information that the kernel reads (`.BTF`) stays.
pub(crate) fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the linker's output is not an ELF object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.contains(".debug") || name == ".llvm_addrsig" || name == ".comment";
    }
    // LLVM keeps the names of sections among those of symbols; the writer wants them apart.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = object::elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    builder.delete_orphans();
    builder.delete_unused_versions();
    let mut out = Vec::new();
    builder.write(&mut out).context("cannot write the object")?;
    Ok(out)
}

/// Names of programs, maps and values that the loader sets.
pub(crate) fn symbols(object: &[u8]) -> Result<BTreeSet<String>> {
    fn read<'a, T>(file: &T) -> BTreeSet<String>
    where
        T: Object<'a>,
    {
        let named = file.symbols().filter(|s| s.is_global() && s.kind() != SymbolKind::Section);
        named.filter_map(|s| Some(s.name().ok()?.to_owned())).filter(|name| !name.is_empty()).collect()
    }
    let file = object::File::parse(object).context("not an ELF object")?;
    Ok(read(&file))
}
