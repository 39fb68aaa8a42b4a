//! Every bash script has a PowerShell twin with the same texts and requests. These tests compare the texts; they run no
//! PowerShell.

use super::{members, shipped, text, yaml};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A script in both languages.
struct Twins {
    name: String,
    bash: String,
    powershell: String,
}

/// All twins: those of the steps, and the files.
fn twins() -> Result<Vec<Twins>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(shipped("steps"))? {
        let name = format!("steps/{}", entry?.file_name().to_string_lossy());
        let steps = yaml(&name)?;
        let steps: Vec<&Value> = members(&steps["steps"]).filter(|step| step["task"].is_null()).collect();
        for pair in steps.chunks(2) {
            let [bash, powershell] = pair else { panic!("{name}: a step has no twin") };
            for same in ["displayName", "env"] {
                assert_eq!(bash[same], powershell[same], "{name}");
            }
            let on = |compared| {
                json!(format!("and(succeeded(), {compared}(variables['Agent.OS'], 'Windows_NT'))"))
            };
            assert_eq!((&bash["condition"], &powershell["condition"]), (&on("ne"), &on("eq")), "{name}");
            let script = |step: &Value, language: &str| -> Result<String> {
                Ok(step[language].as_str().with_context(|| format!("{name}: no {language}"))?.to_owned())
            };
            let (bash, powershell) = (script(bash, "bash")?, script(powershell, "powershell")?);
            all.push(Twins { name: name.clone(), bash, powershell });
        }
    }
    let files = |ending: &str| -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(shipped(""))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            found.extend(name.strip_suffix(ending).map(str::to_owned));
        }
        Ok(found)
    };
    assert_eq!(files(".sh")?, files(".ps1")?);
    for name in files(".sh")? {
        let (bash, powershell) = (text(&format!("{name}.sh"))?, text(&format!("{name}.ps1"))?);
        all.push(Twins { name, bash, powershell });
    }
    assert_eq!(all.len(), 6);
    Ok(all)
}

/// A text with what stands for a value replaced by `#`: `$a`, `${a}`, `$env:a`, `$(f a)`, `{a:g}`, and a backtick or a
/// backslash before a dollar taken off.
fn alike(text: &str) -> String {
    let text = text.replace("\\$", "\u{1}").replace("`$", "\u{1}");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let dollar = rest.strip_prefix('$');
        let tail = dollar.unwrap_or(rest);
        let closed = |open: char, close: char| {
            tail.strip_prefix(open).and_then(|inner| {
                let mut depth = 1;
                let end = inner.find(|c| {
                    depth += i32::from(c == open) - i32::from(c == close);
                    depth == 0
                })?;
                Some(&inner[end + 1..])
            })
        };
        let after = match dollar {
            Some(tail) => closed('{', '}').or_else(|| closed('(', ')')).or_else(|| {
                let tail = tail.strip_prefix("env:").unwrap_or(tail);
                let end = tail.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tail.len());
                (end > 0).then(|| &tail[end..])
            }),
            None => closed('{', '}'),
        };
        match after {
            Some(after) => {
                out.push('#');
                rest = after;
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// The texts that a script says, made alike: what stands between double quotes behind one of these words.
fn said(script: &str, words: &[&str]) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for line in script.lines() {
        for word in words {
            for part in line.split(word).skip(1) {
                let text = part.split('"').next().unwrap_or_default();
                texts.insert(alike(text).replace("##", "#"));
            }
        }
    }
    texts.retain(|text| text.contains(' ') || text.contains("vso["));
    texts
}

/// The requests that a script sends, made alike: what follows the server's part of a URL.
fn asked(script: &str) -> BTreeSet<String> {
    let mut requests = BTreeSet::new();
    for line in script.lines() {
        for base in ["$base/", "$artifacts/", "TESTRELAY_URL/"] {
            let behind = line.split(base).skip(1);
            requests.extend(behind.map(|rest| alike(rest).split('"').next().unwrap_or_default().to_owned()));
        }
    }
    requests
}

/// The names of the environment that a script uses.
fn environment(script: &str) -> BTreeSet<&str> {
    let words = script.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let upper = |word: &&str| {
        word.len() > 1 && word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    words.filter(upper).filter(|word| !matches!(*word, "BASH_SOURCE" | "LC_ALL")).collect()
}

/// The programs that a script calls, with their arguments, made alike.
fn called(script: &str) -> Vec<String> {
    let mut calls = Vec::new();
    for line in script.lines() {
        let line = line.trim().trim_start_matches("if ").trim_start_matches("Invoke-Program ");
        if ["git ", "kustomize ", "testkube "].iter().any(|program| line.starts_with(program)) {
            let call = line.split("; then").next().unwrap_or_default();
            calls.push(alike(&call.replace('"', "")));
        }
    }
    calls
}

#[test]
fn both_languages_say_and_ask_the_same() -> Result<()> {
    for twins in twins()? {
        let (bash, powershell) = (&twins.bash, &twins.powershell);
        let bash_says = said(bash, &["echo \"", "fail \"", "wrong(f\"", "print(f\""]);
        let powershell_says = said(powershell, &["Write-Host \"", "Stop-Here \"", "Add-Mistake \""]);
        assert_eq!(bash_says, powershell_says, "{}", twins.name);
        assert_eq!(asked(bash), asked(powershell), "{}", twins.name);
        assert_eq!(environment(bash), environment(powershell), "{}", twins.name);
        assert_eq!(called(bash), called(powershell), "{}", twins.name);
        let resource = |script: &str| {
            let begin = script.find("apiVersion:")?;
            let end = begin + script[begin..].find("_TAG\"")?;
            Some(alike(&script[begin..end]))
        };
        assert_eq!(resource(bash), resource(powershell), "{}", twins.name);
    }
    Ok(())
}

#[test]
fn the_comparison_is_not_blind() -> Result<()> {
    let twins = twins()?;
    let verify = twins.iter().find(|twins| twins.name == "verify-check").context("no verify-check")?;
    assert!(said(&verify.powershell, &["Add-Mistake \""]).len() >= 11);
    assert_eq!(asked(&verify.bash).len(), 2, "{:?}", asked(&verify.bash));
    let gitops = twins.iter().find(|twins| twins.name.ends_with("gitops.yml")).context("no GitOps")?;
    assert_eq!(called(&gitops.bash).len(), 6, "{:?}", called(&gitops.bash));
    assert!(environment(&gitops.bash).contains("SYSTEM_STAGEATTEMPT"));
    assert_eq!(alike("a $b-${c}: $env:D_E $(f \"$g\") {h:g} \\$i `$i"), "a #-#: # # # \u{1}i \u{1}i");
    Ok(())
}

#[test]
fn the_page_names_every_file_and_every_value() -> Result<()> {
    let page = text("README.md")?;
    let mut names = BTreeSet::new();
    for folder in ["", "steps"] {
        for entry in std::fs::read_dir(shipped(folder))? {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    for own in ["README.md", "publish-results.yml"] {
        assert!(names.remove(own), "{own}");
    }
    for twins in twins()? {
        names.extend(environment(&twins.bash).into_iter().map(str::to_owned));
    }
    // The scripts' usage and what they read themselves are no values of the page.
    names.remove("SERVICE_CONNECTION");
    for variable in members(&yaml("azure-pipelines.yml")?["variables"]) {
        names.extend(variable["name"].as_str().map(str::to_owned));
    }
    for name in names {
        assert!(page.contains(&name), "{name}");
    }
    Ok(())
}

#[test]
fn windows_powershell_can_read_its_scripts() -> Result<()> {
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into())?;
    for twins in twins()? {
        let script = &twins.powershell;
        // Windows PowerShell reads a file without a byte order mark in the system's old code page.
        assert!(script.is_ascii(), "{}", twins.name);
        let tree = parser.parse(script, None).context("not parsed")?;
        assert!(!tree.root_node().has_error(), "{}: {}", twins.name, tree.root_node().to_sexp());
        for newer in [" && ", " || ", " ?? ", " ? "] {
            assert!(!script.contains(newer), "{}: {newer:?} is of PowerShell 7", twins.name);
        }
    }
    assert!(parser.parse("if ($a { }", None).context("not parsed")?.root_node().has_error());
    Ok(())
}
