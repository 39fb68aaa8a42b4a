//! What a store may rely on, asked of the fake API server and of a real one: the same tests, over TLS, with the same client.
//!
//! `fake::NAME` always runs, `real::NAME` where `KUBEBUILDER_ASSETS` names the programs; where it does not, one line says so.

mod api;
mod leases;
mod lists;
mod secrets;
mod trouble;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use api::{Api, Kind};
use kubernetes::ApiServer;
use libtest_mimic::{Arguments, Trial};

/// A behaviour, by its name.
type Behaviour = (&'static str, fn(&Api) -> Result<()>);

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let real = match kubernetes::programs() {
        Some(programs) if !arguments.list => Some(Arc::new(ApiServer::start(&programs)?)),
        Some(_) => None,
        None => {
            println!("no real API server: KUBEBUILDER_ASSETS is not set, so only the fake one is asked");
            None
        }
    };
    let behaviours = [secrets::ALL, leases::ALL, lists::ALL, trouble::ALL].concat();
    let mut trials = Vec::new();
    for (name, behaviour) in behaviours {
        trials.push(trial(name, Kind::Fake, behaviour));
        if let Some(server) = &real {
            trials.push(trial(name, Kind::Real(Arc::clone(server)), behaviour));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // All trials have ended: this is the last one who knows the server.
    if let Some(server) = real.and_then(Arc::into_inner) {
        server.stop()?;
    }
    Ok(conclusion.exit_code())
}

fn trial(name: &'static str, kind: Kind, behaviour: fn(&Api) -> Result<()>) -> Trial {
    Trial::test(format!("{}::{name}", kind.name()), move || {
        let api = Api::new(kind, name)?;
        behaviour(&api).map_err(|error| format!("{error:#}").into())
    })
}
