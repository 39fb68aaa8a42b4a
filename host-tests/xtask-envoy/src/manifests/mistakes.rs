//! The mistakes in `envoy/kubernetes` that kustomize notices: each is made in a copy, and what `kubectl` prints is the line
//! that `envoy/troubleshooting.md` quotes.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use host_tests::troubleshooting::lines;

use super::{TESTKUBE, Tools, copy_folder};
use xtask::program::Program;

/// How a mistake is made in a copy of `envoy/kubernetes`.
type Make = fn(&Path) -> Result<()>;

/// By the page's headings.
const MISTAKES: [(&str, Make); 4] = [
    ("`container/` is listed under `resources`", |copy| {
        let file = copy.join("standalone/kustomization.yaml");
        replaced(&file, "- ../container\n", "")?;
        replaced(&file, "- networkpolicy.yaml\n", "- networkpolicy.yaml\n- ../container\n")
    }),
    ("`image-volume/` is misspelt", |copy| {
        replaced(&copy.join("standalone/kustomization.yaml"), "# - ../image-volume", "- ../image-volumes")
    }),
    ("The folder was copied without its neighbours", |copy| Ok(fs::remove_dir_all(copy.join("container"))?)),
    ("`envoy.yaml` is not there", |copy| Ok(fs::remove_file(copy.join("standalone/envoy.yaml"))?)),
];

/// Helm's own output goes through a script, where the others are `kubectl kustomize standalone`.
const RENAMED: &str = "The chart's Deployment has another name";

/// Makes every mistake of the page's section; no other is in it.
pub(super) fn make_all(kubernetes: &Path, scratch: &Path, tools: &Tools) -> Result<usize> {
    let mut lines = lines("## kustomize")?;
    let made = lines.len();
    let tried = |name: &str, make: Make, program: &dyn Fn(&Path) -> Result<Program>| -> Result<String> {
        let copied = copy_folder(kubernetes, scratch).and_then(|()| make(scratch));
        let said = copied.and_then(|()| printed(scratch, program));
        let _ = fs::remove_dir_all(scratch);
        said.with_context(|| name.to_owned())
    };
    let standalone = |copy: &Path| {
        let mut program = tools.kubectl();
        program.arg("kustomize").arg(copy.join("standalone"));
        Ok(program)
    };
    let mut said = Vec::new();
    for (name, make) in MISTAKES {
        said.push((name, tried(name, make, &standalone)?));
    }
    let rename: Make = |copy| {
        let chart = TESTKUBE.replace("name: testkube-api-server", "name: testkube-api");
        ensure!(chart != TESTKUBE, "the chart's Deployment has another name already");
        Ok(fs::write(copy.join("rendered.yaml"), chart)?)
    };
    let helm = |copy: &Path| {
        let mut program = tools.with_kubectl_on_path(Program::new(copy.join("sidecar/post-render.sh")));
        program.stdin(fs::File::open(copy.join("rendered.yaml"))?);
        Ok(program)
    };
    said.push((RENAMED, tried(RENAMED, rename, &helm)?));
    for (name, said) in said {
        let line = lines.remove(name).with_context(|| format!("the page has no {name:?}"))?;
        ensure!(said.trim_end() == line, "{name}: the page says\n{line}\nand kubectl\n{said}");
    }
    ensure!(lines.is_empty(), "nobody makes {:?}", lines.keys());
    Ok(made)
}

/// What a program prints when it fails, with `…` for the copy's folder.
fn printed(copy: &Path, program: &dyn Fn(&Path) -> Result<Program>) -> Result<String> {
    let copy = copy.canonicalize()?;
    let ended = program(&copy)?.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    ensure!(!ended.status.success(), "it was built all the same");
    let said = String::from_utf8_lossy(&ended.stderr);
    Ok(said.replace(&copy.display().to_string(), "…"))
}

fn replaced(file: &Path, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(file)?;
    ensure!(text.contains(from), "{} has no {from:?}", file.display());
    Ok(fs::write(file, text.replace(from, to))?)
}
