//! Takes callbacks out of a built module that the SDK exports and Testrelay has no use for.
//!
//! Envoy enters the VM for every callback that a module exports, and the SDK exports them all. Each entry costs about as
//! much as all that the module's own code does for a download, and the pieces of a file come in thousands: what is not
//! exported, Envoy does not call.

use anyhow::{Context, Result, ensure};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExternalKind, Parser, Payload};

/// What Testrelay does not look at: the bodies of answers, and the end of a stream, or of a root context, before its deletion.
pub const UNUSED: [&str; 3] = ["proxy_on_response_body", "proxy_on_log", "proxy_on_done"];

/// The module without the exports of these names, each of which must be there.
///
/// # Errors
/// It is no module, or lacks one of them.
pub fn without(module: &[u8], names: &[&str]) -> Result<Vec<u8>> {
    let mut out = Module::new();
    let mut found = 0;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.context("this is not a valid WebAssembly module")?;
        if let Payload::ExportSection(exports) = payload {
            let mut kept = ExportSection::new();
            for export in exports {
                let export = export?;
                if names.contains(&export.name) {
                    found += 1;
                    continue;
                }
                let kind = match export.kind {
                    ExternalKind::Func => ExportKind::Func,
                    ExternalKind::Memory => ExportKind::Memory,
                    ExternalKind::Table => ExportKind::Table,
                    ExternalKind::Global => ExportKind::Global,
                    other => anyhow::bail!("the export {} is a {other:?}", export.name),
                };
                kept.export(export.name, kind, export.index);
            }
            out.section(&kept);
        } else if let Some((id, range)) = payload.as_section() {
            let data = module.get(range).context("a section ends outside the module")?;
            out.section(&RawSection { id, data });
        }
    }
    ensure!(found == names.len(), "the module exports {found} of {names:?}: has the SDK changed?");
    Ok(out.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exports(module: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::ExportSection(exports) = payload.unwrap() {
                names.extend(exports.into_iter().map(|export| export.unwrap().name.to_owned()));
            }
        }
        names
    }

    #[test]
    fn only_the_named_exports_go() {
        let text = r#"(module (memory (export "memory") 1) (data (i32.const 0) "kept")
            (func (export "a") (result i32) (i32.const 1)) (func (export "b")) (func (export "c")))"#;
        let module = wat::parse_str(text).unwrap();
        let stripped = without(&module, &["b"]).unwrap();
        assert_eq!(exports(&stripped), ["memory", "a", "c"]);
        assert!(stripped.windows(4).any(|window| window == b"kept"));
        assert!(stripped.len() < module.len());
    }

    #[test]
    fn a_name_that_is_not_there_is_an_error() {
        let module = wat::parse_str(r#"(module (func (export "a")))"#).unwrap();
        let error = without(&module, &["a", "b"]).unwrap_err().to_string();
        assert!(error.starts_with("the module exports 1 of"), "{error}");
    }
}
