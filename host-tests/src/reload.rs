//! Changes of the listener while Envoy runs: it is in a file that Envoy watches (LDS).

use crate::{Envoy, Setup, config, wait_for};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// The outcome of a new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Envoy works with it, each worker within milliseconds and for new connections. Connections that exist, and the
    /// old plugin's ticks, go on with the old one until the drain time ends.
    Accepted,
    /// Envoy keeps the old one. Contains what it logged meanwhile, with the reason.
    Refused(String),
}

impl Envoy {
    /// Replaces the plugin's whole configuration and waits until Envoy has accepted or refused it.
    ///
    /// The same value again is the same configuration to Envoy, byte for byte.
    pub fn reload(&mut self, plugin: &Value) -> Result<Reload> {
        self.reload_text(&plugin.to_string())
    }

    /// As [`Envoy::reload`], with a text that need not be JSON.
    pub fn reload_text(&mut self, text: &str) -> Result<Reload> {
        self.reload_listener(|listener| config::set_plugin(listener, text))
    }

    /// Changes anything in the listener, whatever its last change has come to, and waits in the same way.
    pub fn reload_listener(&mut self, edit: impl FnOnce(&mut Value) -> Result<()>) -> Result<Reload> {
        let before = self.stats()?;
        let logged = self.log().len();
        let listener = self.dynamic_listener()?;
        edit(listener.testrelay()?)?;
        listener.write()?;
        let refused = wait_for("Envoy's verdict on the new listener", PATIENCE, || {
            let now = self.stats().ok()?;
            if rejected(&now) > rejected(&before) {
                return Some(true);
            }
            let warming = number(&now, "listener_manager.total_listeners_warming");
            (number(&now, UPDATED) > number(&before, UPDATED) && warming == 0).then_some(false)
        });
        let meanwhile = self.log().get(logged..).unwrap_or_default().to_owned();
        match refused {
            Ok(true) => Ok(Reload::Refused(meanwhile)),
            Ok(false) => Ok(Reload::Accepted),
            Err(error) => Err(error.context(meanwhile)),
        }
    }

    /// The plugin's configuration as it was last written. It needs a [`Setup::dynamic_listener`].
    pub fn plugin(&mut self) -> Result<Value> {
        config::plugin(self.dynamic_listener()?.testrelay()?)
    }
}

/// How many versions of the listeners Envoy has refused.
pub(crate) fn rejected(stats: &BTreeMap<String, u64>) -> u64 {
    number(stats, "listener_manager.lds.update_rejected")
}

/// The listeners of one Envoy in their file.
#[derive(Debug)]
pub(crate) struct DynamicListener {
    directory: PathBuf,
    /// An object whose `resources` are the listeners: what the file holds.
    discovery: Value,
    version: u64,
    /// Reserves the port for this Envoy; it never listens, so it gets no connection.
    _port: Socket,
}

impl DynamicListener {
    /// A bootstrap configuration without listeners, and the listeners in a file in `directory`.
    pub(crate) fn split(setup: &Setup, directory: &Path) -> Result<(Value, DynamicListener)> {
        let (port, address) = keep_a_port()?;
        let mut bootstrap = setup.bootstrap(address)?;
        let resources = config::at(&mut bootstrap, "/static_resources")?.as_object_mut();
        let listeners = resources.and_then(|resources| resources.remove("listeners"));
        let mut listeners = listeners.context("the configuration has no listeners")?;
        for listener in listeners.as_array_mut().into_iter().flatten() {
            listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        }
        let directory = directory.join("listeners");
        std::fs::create_dir(&directory)?;
        bootstrap["dynamic_resources"] = json!({
            "lds_config": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": config::path(&directory.join(FILE))?,
                    "watched_directory": { "path": config::path(&directory)? },
                },
            },
        });
        let discovery = json!({ "resources": listeners });
        let mut dynamic = DynamicListener { directory, discovery, version: 0, _port: port };
        // In the form in which a reload writes it: a configuration that returns must be the same text.
        let listener = dynamic.testrelay()?;
        if let Ok(plugin) = config::plugin(listener) {
            config::set_plugin(listener, &plugin.to_string())?;
        }
        dynamic.write()?;
        Ok((bootstrap, dynamic))
    }

    fn testrelay(&mut self) -> Result<&mut Value> {
        config::named(&mut self.discovery, "/resources", "testrelay")
    }

    /// Writes a file beside it and renames that, so that Envoy never reads half a file.
    fn write(&mut self) -> Result<()> {
        self.version += 1;
        self.discovery["version_info"] = json!(self.version.to_string());
        let new = self.directory.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(&self.discovery)?)?;
        std::fs::rename(&new, self.directory.join(FILE))?;
        Ok(())
    }
}

const FILE: &str = "lds.json";
const UPDATED: &str = "listener_manager.lds.update_success";

fn number(stats: &BTreeMap<String, u64>, name: &str) -> u64 {
    stats.get(name).copied().unwrap_or_default()
}

/// A free port that nobody else gets meanwhile. Envoy can bind it too, because it sets SO_REUSEPORT as this does.
///
/// Port 0 in the file would give the listener a new port with each change.
fn keep_a_port() -> Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket().context("an address of the Internet")?;
    Ok((socket, address))
}
