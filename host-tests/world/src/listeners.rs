//! A listener's life: loaded, configured on each thread, drained, ended (facts B1, B2, B6 and L).

use crate::host::{Context, Root};
use crate::plugins::{Filter, Generation, OnThread, Plugin, PluginKey};
use crate::process::{MAIN, Process};
use crate::state::{Event, MILLISECOND};
use crate::vm::{Callback, VmId};
use anyhow::Result;

impl Process {
    /// A new version of a listener. False: refused (NACK), and the old one stays.
    pub(crate) fn load(&self, listener: &str, filter: Filter, boot: bool) -> Result<bool> {
        let key: PluginKey =
            (filter.code.version, format!("{}|{listener}", filter.name), filter.configuration.clone());
        let known = self.plugins.borrow().living(&key);
        let plugin = match known {
            Some(plugin) => plugin,
            None => {
                let version = filter.code.version;
                if self.plugins.borrow().failed.contains(&version) {
                    return Ok(false);
                }
                if !self.plugins.borrow().canaried.contains(&key) {
                    if !self.canary(&filter)? {
                        return Ok(false);
                    }
                    self.plugins.borrow_mut().canaried.insert(key.clone());
                }
                let mut plugins = self.plugins.borrow_mut();
                let on = vec![OnThread::Absent; self.settings.workers + 1];
                plugins.all.push(Plugin { filter, key, holders: 0, on });
                plugins.all.len() - 1
            }
        };
        let mut plugins = self.plugins.borrow_mut();
        let mut state = self.state.borrow_mut();
        plugins.all[plugin].holders += 1;
        plugins.generations.push(Generation { plugin, is_drained: false });
        let generation = plugins.generations.len() - 1;
        if let Some(old) = plugins.newest.insert(listener.into(), generation) {
            let drain = self.settings.drain;
            state.after(drain, Event::Drained { generation: old as u64 });
        }
        state.trace_line(format_args!("listener {listener}: plugin {plugin}, generation {generation}"));
        drop(plugins);
        // At boot the main thread is first; at a reload workers have been seen 2 ms before it.
        let workers = self.settings.workers;
        for thread in 0..=workers {
            let delay = match boot {
                true => thread as u64 * 100,
                false => state.random.below(3 * MILLISECOND),
            };
            state.after(delay, Event::Configure { thread, plugin });
        }
        Ok(true)
    }

    /// A listener goes away: at its drain's end its plugin does.
    pub(crate) fn unload(&self, listener: &str) {
        let mut plugins = self.plugins.borrow_mut();
        plugins.serving.retain(|(name, _), _| name != listener);
        if let Some(generation) = plugins.newest.remove(listener) {
            let drain = self.settings.drain;
            self.state.borrow_mut().after(drain, Event::Drained { generation: generation as u64 });
        }
    }

    /// A short-lived clone that takes the configuration or not. It is dropped without `on_done`, and its calls with it.
    fn canary(&self, filter: &Filter) -> Result<bool> {
        self.state.borrow_mut().trace_line(format_args!("canary"));
        let vm = self.plugins.borrow_mut().new_vm();
        self.make_vm(vm, MAIN, &filter.code)?;
        self.begin(MAIN);
        let root = self.make_root(vm, filter);
        self.finish(MAIN);
        self.drop_vm(vm);
        Ok(root.is_some())
    }

    /// A plugin comes to a thread, or comes back to it.
    pub(crate) fn configure(&self, thread: usize, plugin: usize) {
        if self.plugins.borrow().all[plugin].holders == 0 {
            return;
        }
        let on = self.plugins.borrow().all[plugin].on[thread];
        if !matches!(on, OnThread::Living { .. }) && self.make_on_thread(thread, plugin).is_none() {
            let version = self.plugins.borrow().all[plugin].filter.code.version;
            self.plugins.borrow_mut().failed.insert(version);
            let text = format!("thread {thread} refused a configuration that the canary took");
            self.state.borrow_mut().violation("7", text);
        }
        let mut plugins = self.plugins.borrow_mut();
        let newest: Vec<String> = plugins
            .newest
            .iter()
            .filter(|(_, generation)| plugins.generations[**generation].plugin == plugin)
            .map(|(listener, _)| listener.clone())
            .collect();
        for listener in newest {
            plugins.serving.insert((listener, thread), plugin);
        }
    }

    /// A root context for the plugin on a thread: in the thread's VM of that key, or in a new one.
    pub(crate) fn make_on_thread(&self, thread: usize, plugin: usize) -> Option<(VmId, u32)> {
        let filter = self.plugins.borrow().all[plugin].filter.clone();
        let version = filter.code.version;
        let known = self.plugins.borrow().vms.get(&(thread, version)).map(|(vm, _)| *vm);
        let vm = match known {
            Some(vm) => vm,
            None => {
                let vm = self.plugins.borrow_mut().new_vm();
                self.make_vm(vm, thread, &filter.code).ok()?;
                let now = self.state.borrow().now;
                self.plugins.borrow_mut().vms.insert((thread, version), (vm, now));
                vm
            }
        };
        let root = self.make_root(vm, &filter)?;
        self.plugins.borrow_mut().all[plugin].on[thread] = OnThread::Living { vm, root };
        self.state
            .borrow_mut()
            .trace_line(format_args!("thread {thread}: plugin {plugin} is vm {} root {root}", vm.0));
        Some((vm, root))
    }

    /// `on_vm_start` is called for each root context, not once per VM.
    fn make_root(&self, vm: VmId, filter: &Filter) -> Option<u32> {
        let root = self.next_context(
            vm,
            Context::Root(Root {
                plugin_name: filter.name.clone(),
                root_id: filter.name.clone(),
                ..Root::default()
            }),
        )?;
        self.call(vm, Callback::ContextCreate { context: root, parent: 0 })?;
        let started = self.call(vm, Callback::VmStart { context: root })?;
        self.with(vm, |host| host.configuration = Some(filter.configuration.clone()));
        let size = u32::try_from(filter.configuration.len()).unwrap_or(u32::MAX);
        let configured = self.call(vm, Callback::Configure { context: root, size })?;
        (started != 0 && configured != 0).then_some(root)
    }

    /// A listener's drain has ended: a plugin that nobody holds any more ends on every thread.
    pub(crate) fn drained(&self, generation: usize) {
        let mut plugins = self.plugins.borrow_mut();
        let Some(old) = plugins.generations.get_mut(generation).filter(|old| !old.is_drained) else { return };
        old.is_drained = true;
        let plugin = old.plugin;
        plugins.all[plugin].holders -= 1;
        if plugins.all[plugin].holders == 0 {
            let mut state = self.state.borrow_mut();
            state.trace_line(format_args!("plugin {plugin} ends"));
            for thread in 0..=self.settings.workers {
                let delay = state.random.below(3 * MILLISECOND);
                state.after(delay, Event::End { thread, plugin });
            }
        }
    }

    /// `on_done`, then `on_delete`; with the last root context the VM goes, and with the last VM shared data.
    pub(crate) fn end(&self, thread: usize, plugin: usize) {
        let on = self.plugins.borrow().all[plugin].on[thread];
        if let OnThread::Living { vm, root } = on {
            match self.call(vm, Callback::Done { context: root }) {
                Some(0) => {
                    self.state.borrow_mut().violation("host", "on_done = false is not in this host".into())
                }
                Some(_) => {
                    self.call(vm, Callback::Delete { context: root });
                }
                None => {}
            }
            self.with(vm, |host| host.contexts.remove(&root));
            self.state.borrow_mut().rules.context_gone(vm, root);
            let mut plugins = self.plugins.borrow_mut();
            plugins.all[plugin].on[thread] = OnThread::Absent;
            if plugins.on_vm(vm).next().is_none() {
                plugins.vms.retain(|_, (other, _)| *other != vm);
                drop(plugins);
                self.drop_vm(vm);
            }
        }
        self.plugins.borrow_mut().all[plugin].on[thread] = OnThread::Absent;
        if self.plugins.borrow().all.iter().all(|plugin| plugin.holders == 0)
            && self.plugins.borrow().vms.is_empty()
        {
            self.state.borrow_mut().shared.clear();
        }
    }
}
