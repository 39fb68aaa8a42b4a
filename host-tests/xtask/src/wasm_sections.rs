//! Takes a module apart: how many bytes each section has, and each crate's functions in the code section.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use wasmparser::{KnownCustom, Name, Parser, Payload, TypeRef};

/// What a module is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anatomy {
    /// The module's bytes, section by section, largest first; they add up to the file.
    pub sections: Vec<Share>,
    /// The code section's bytes, crate by crate, largest first; they add up to [`Anatomy::code`].
    pub code_by_crate: Vec<Share>,
    /// The code section's bytes.
    pub code: u64,
    /// What the host must offer, as `module.name`, in the module's order.
    pub imports: Vec<String>,
}

/// One row: a name and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Whose bytes they are.
    pub name: String,
    /// How many.
    pub bytes: u64,
}

/// The group of functions that belong to no crate.
const NO_CRATE: &str = "(C library, compiler builtins, linker)";

/// Takes a module apart. Without a name section all code is one group.
pub fn dissect(module: &[u8]) -> Result<Anatomy> {
    let mut sections = BTreeMap::new();
    let mut functions: Vec<u64> = Vec::new();
    let mut names = BTreeMap::new();
    let mut imports = Vec::new();
    let mut imported_functions = 0_u32;
    let mut code = 0_u64;
    // Where the section before, and the function before, ended: what lies between is the next one's header.
    let (mut end_of_section, mut end_of_function) = (0_usize, 0_usize);

    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.context("this is not a valid WebAssembly module")?;
        match &payload {
            Payload::Version { range, .. } => {
                *sections.entry("(file header)".to_owned()).or_default() +=
                    (range.end - end_of_section) as u64;
                end_of_section = range.end;
            }
            Payload::ImportSection(reader) => {
                for import in reader.clone().into_imports() {
                    let import = import?;
                    imports.push(format!("{}.{}", import.module, import.name));
                    imported_functions += u32::from(matches!(import.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionStart { range, .. } => code = (range.end - end_of_section) as u64,
            Payload::CodeSectionEntry(body) => {
                let range = body.range();
                let header = if functions.is_empty() {
                    length_of_leb128(range.len())
                } else {
                    range.start - end_of_function
                };
                functions.push((range.len() + header) as u64);
                end_of_function = range.end;
            }
            Payload::CustomSection(reader) => {
                if let KnownCustom::Name(subsections) = reader.as_known() {
                    for subsection in subsections {
                        let Name::Function(map) = subsection? else { continue };
                        for naming in map {
                            let naming = naming?;
                            names.insert(naming.index, naming.name.to_owned());
                        }
                    }
                }
            }
            _ => {}
        }
        if let Some((_, range)) = payload.as_section() {
            *sections.entry(section_name(&payload)).or_default() += (range.end - end_of_section) as u64;
            end_of_section = range.end;
        }
    }

    let mut by_crate: BTreeMap<String, u64> = BTreeMap::new();
    for (index, bytes) in (imported_functions..).zip(&functions) {
        let group = names.get(&index).map_or_else(|| "(no name)".to_owned(), |name| crate_of(name));
        *by_crate.entry(group).or_default() += bytes;
    }
    let in_functions: u64 = functions.iter().sum();
    by_crate.insert("(section header)".to_owned(), code.saturating_sub(in_functions));
    Ok(Anatomy { sections: largest_first(sections), code_by_crate: largest_first(by_crate), code, imports })
}

/// The crate of a function, by its mangled or unmangled name.
///
/// A method counts for the type's crate if that is a crate's, else for the trait's; drop glue for the type that is
/// dropped.
pub fn crate_of(symbol: &str) -> String {
    let path = format!("{:#}", rustc_demangle::demangle(symbol));
    if let Some(name) = crate_in_path(&path) {
        // The compiler's own namespace for the allocator's and the panic handler's entry points.
        return if name == "__rustc" { "std" } else { name }.to_owned();
    }
    if path.starts_with("proxy_") {
        // The ABI's exports, which proxy_wasm defines without mangling.
        return "proxy_wasm".to_owned();
    }
    if path.starts_with("__rust_") || path.starts_with("__rdl_") || path.starts_with("rust_") {
        return "std".to_owned();
    }
    NO_CRATE.to_owned()
}

fn crate_in_path(path: &str) -> Option<&str> {
    if let Some(dropped) = path.strip_prefix("core::ptr::drop_in_place") {
        let dropped = dropped.trim_start_matches("::");
        return crate_in_type(dropped.strip_prefix('<')?).or(Some("core"));
    }
    if let Some(inside) = path.strip_prefix('<') {
        let of_trait = || inside.split_once(" as ").and_then(|(_, of_trait)| crate_in_type(of_trait));
        // `<u32 as core::fmt::Display>::fmt`: no crate before `as`.
        let of_type = inside.split(" as ").next().and_then(crate_in_type);
        return of_type.or_else(of_trait).or(Some("core"));
    }
    path.contains("::").then(|| crate_in_type(path)).flatten()
}

/// The crate that the first path in a type names: `testrelay` for `&mut [testrelay::plan::Plan]`.
fn crate_in_type(text: &str) -> Option<&str> {
    let mut text = text;
    while let Some(shorter) = ["&", "*const ", "*mut ", "mut ", "dyn ", "[", "(", "<"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
    {
        text = shorter;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    (!name.is_empty() && after.starts_with("::")).then_some(name)
}

fn section_name(payload: &Payload<'_>) -> String {
    match payload {
        Payload::TypeSection(_) => "type".to_owned(),
        Payload::ImportSection(_) => "import".to_owned(),
        Payload::FunctionSection(_) => "function".to_owned(),
        Payload::TableSection(_) => "table".to_owned(),
        Payload::MemorySection(_) => "memory".to_owned(),
        Payload::GlobalSection(_) => "global".to_owned(),
        Payload::ExportSection(_) => "export".to_owned(),
        Payload::StartSection { .. } => "start".to_owned(),
        Payload::ElementSection(_) => "element".to_owned(),
        Payload::DataCountSection { .. } => "data count".to_owned(),
        Payload::CodeSectionStart { .. } => "code".to_owned(),
        Payload::DataSection(_) => "data".to_owned(),
        Payload::CustomSection(reader) => format!("custom: {}", reader.name()),
        _ => "other".to_owned(),
    }
}

fn length_of_leb128(mut value: usize) -> usize {
    let mut length = 1;
    while value >= 0x80 {
        value >>= 7;
        length += 1;
    }
    length
}

fn largest_first(shares: BTreeMap<String, u64>) -> Vec<Share> {
    let mut shares: Vec<Share> = shares.into_iter().map(|(name, bytes)| Share { name, bytes }).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"(module
        (import "env" "proxy_log" (func $log (param i32)))
        (memory 1)
        (func $_ZN9testrelay4plan5parse17h0123456789abcdefE (call $log (i32.const 1)) (call $log (i32.const 2)))
        (func $_ZN9testrelay4plan4step17h0123456789abcdefE (call $log (i32.const 3)))
        (func $memcpy (call $log (i32.const 4)))
        (data (i32.const 0) "some text")
    )"#;

    #[test]
    fn the_sections_add_up_to_the_file_and_the_crates_to_the_code() {
        let module = wat::parse_str(SAMPLE).unwrap();
        let anatomy = dissect(&module).unwrap();
        let sum = |shares: &[Share]| shares.iter().map(|share| share.bytes).sum::<u64>();
        assert_eq!(sum(&anatomy.sections), module.len() as u64);
        assert_eq!(sum(&anatomy.code_by_crate), anatomy.code);
        assert!(anatomy.sections.contains(&Share { name: "code".to_owned(), bytes: anatomy.code }));
        assert!(anatomy.sections.contains(&Share { name: "(file header)".to_owned(), bytes: 8 }));
    }

    #[test]
    fn each_function_counts_for_its_crate_and_the_imports_are_listed() {
        let anatomy = dissect(&wat::parse_str(SAMPLE).unwrap()).unwrap();
        let bytes = |name: &str| anatomy.code_by_crate.iter().find(|share| share.name == name).unwrap().bytes;
        // A body is its length (1), its count of locals (1), its calls (4 each) and `end` (1).
        assert_eq!(bytes("testrelay"), 11 + 7);
        assert_eq!(bytes(NO_CRATE), 7);
        // The section's id (1), its length (1) and its count of functions (1).
        assert_eq!(bytes("(section header)"), 3);
        assert_eq!(anatomy.imports, ["env.proxy_log"]);
    }

    #[test]
    fn a_module_without_names_is_one_group() {
        let unnamed = SAMPLE.lines().filter(|line| !line.contains("$_ZN") && !line.contains("$memcpy"));
        let unnamed = unnamed.collect::<Vec<_>>().join("\n").replace("(memory 1)", "(func) (memory 1)");
        let names_off = unnamed.replace("$log", "");
        let anatomy = dissect(&wat::parse_str(names_off).unwrap()).unwrap();
        assert_eq!(anatomy.code_by_crate.iter().find(|share| share.name == "(no name)").unwrap().bytes, 3);
    }

    #[test]
    fn what_is_no_module_is_an_error() {
        assert!(dissect(b"<html>").is_err());
    }

    #[test]
    fn a_symbol_belongs_to_the_crate_of_its_type_else_of_its_trait() {
        for (symbol, owner) in [
            ("_ZN9testrelay4json5parse17h0123456789abcdefE", "testrelay"),
            ("_RNvMs_NtCs1234_9testrelay4planNtB4_4Plan5parse", "testrelay"),
            ("<testrelay::plan::Plan as core::fmt::Debug>::fmt", "testrelay"),
            ("<&mut dyn serde_json::read::Read as core::fmt::Debug>::fmt", "serde_json"),
            ("<u32 as core::fmt::Display>::fmt", "core"),
            ("<T as proxy_wasm::traits::Context>::on_done", "proxy_wasm"),
            ("<(testrelay::a::A, u8)>::first", "testrelay"),
            ("alloc::vec::Vec<testrelay::plan::Plan>::push", "alloc"),
            ("core::ptr::drop_in_place<testrelay::plan::Plan>", "testrelay"),
            ("core::ptr::drop_in_place::<[testrelay::plan::Plan]>", "testrelay"),
            ("core::ptr::drop_in_place<u8>", "core"),
            ("proxy_on_http_call_response", "proxy_wasm"),
            ("__rust_alloc", "std"),
            ("_RNvCs1234_7___rustc12___rust_alloc", "std"),
            ("memcpy", NO_CRATE),
        ] {
            assert_eq!(crate_of(symbol), owner, "{symbol}");
        }
    }
}
