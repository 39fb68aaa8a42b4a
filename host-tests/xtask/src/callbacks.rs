//! Takes callbacks out of a built module that the SDK exports and Testrelay has no use for.
//!
//! Envoy enters the VM for every callback that a module exports, and the SDK exports them all. Each entry costs about as
//! much as all that the module's own code does for a download, and the pieces of a file come in thousands: what is not
//! exported, Envoy does not call. What nothing else calls then gets an empty body, which is 15 KB of the module.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use wasm_encoder::{CodeSection, ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ElementItems, ElementKind, ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef};

/// What Testrelay does not look at: the bodies of answers, and the end of a stream, or of a root context, before its
/// deletion. What is none of an HTTP filter's: TCP, gRPC calls, calls of other extensions.
pub const UNUSED: [&str; 13] = [
    "proxy_on_response_body",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_on_upstream_connection_close",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_foreign_function",
];

/// The module without the exports of these names, each of which must be there, and without the code that nothing can
/// reach without them.
///
/// # Errors
/// It is no module, or lacks one of them.
pub fn without(module: &[u8], names: &[&str]) -> Result<Vec<u8>> {
    emptied(&unexported(module, names)?)
}

/// `unreachable`, without locals.
const EMPTY: [u8; 3] = [0, 0x00, 0x0b];

/// The module in which each function that neither an export, a table nor another reachable function names has no code. It
/// stays there, so that all keep their numbers.
fn emptied(module: &[u8]) -> Result<Vec<u8>> {
    let mut imported = 0;
    let mut found = Vec::new();
    let mut bodies: Vec<FunctionBody<'_>> = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += usize::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    found.extend((export.kind == ExternalKind::Func).then_some(export.index));
                }
            }
            Payload::StartSection { func, .. } => found.push(func),
            Payload::ElementSection(elements) => {
                for element in elements {
                    let element = element?;
                    ensure!(!matches!(element.kind, ElementKind::Declared), "a declared element");
                    let ElementItems::Functions(functions) = element.items else {
                        anyhow::bail!("an element of expressions");
                    };
                    for function in functions {
                        found.push(function?);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(body),
            _ => {}
        }
    }
    let mut reached = BTreeSet::new();
    while let Some(function) = found.pop() {
        let body = usize::try_from(function)?.checked_sub(imported);
        let Some(body) = body.filter(|_| reached.insert(function)) else { continue };
        for operator in bodies.get(body).context("a function without a body")?.get_operators_reader()? {
            if let Operator::Call { function_index } | Operator::RefFunc { function_index } = operator? {
                found.push(function_index);
            }
        }
    }
    let mut code = CodeSection::new();
    for (n, body) in bodies.iter().enumerate() {
        let is_reached = reached.contains(&u32::try_from(n + imported)?);
        code.raw(if is_reached { body.as_bytes() } else { &EMPTY });
    }
    let mut out = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::CodeSectionStart { .. } => {
                out.section(&code);
            }
            Payload::CodeSectionEntry(_) => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    let data = module.get(range).context("a section ends outside the module")?;
                    out.section(&RawSection { id, data });
                }
            }
        }
    }
    Ok(out.finish())
}

fn unexported(module: &[u8], names: &[&str]) -> Result<Vec<u8>> {
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
    fn what_nothing_calls_any_more_is_empty_and_the_rest_is_as_it_was() {
        let text = r#"(module (import "env" "f" (func)) (type $t (func)) (table 1 funcref) (elem (i32.const 0) $t1)
            (func $t1 (call $shared)) (func $shared (call 0)) (func $own (call $shared) (nop) (nop) (nop))
            (func (export "a") (call $shared) (call_indirect (type $t) (i32.const 0)))
            (func (export "b") (call $own)))"#;
        let module = wat::parse_str(text).unwrap();
        let sizes = |module: &[u8]| -> Vec<usize> {
            let payloads = Parser::new(0).parse_all(module).map(Result::unwrap);
            payloads
                .filter_map(|payload| match payload {
                    Payload::CodeSectionEntry(body) => Some(body.as_bytes().len()),
                    _ => None,
                })
                .collect()
        };
        let (before, after) = (sizes(&module), sizes(&without(&module, &["b"]).unwrap()));
        assert_eq!(after, [before[0], before[1], EMPTY.len(), before[3], EMPTY.len()]);
        assert_eq!(sizes(&without(&module, &[]).unwrap()), before);
    }

    #[test]
    fn a_name_that_is_not_there_is_an_error() {
        let module = wat::parse_str(r#"(module (func (export "a")))"#).unwrap();
        let error = without(&module, &["a", "b"]).unwrap_err().to_string();
        assert!(error.starts_with("the module exports 1 of"), "{error}");
    }
}
