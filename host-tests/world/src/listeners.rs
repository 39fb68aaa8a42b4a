//! A listener's life: loaded, configured on each thread, drained, ended.

use crate::host::{Context, Root};
use crate::plugins::{Base, Filter, Generation, OnThread, Plugin};
use crate::process::{MAIN, Process};
use crate::state::{Event, MILLISECOND};
use crate::vm::{Callback, VmId};
use anyhow::Result;

impl Process {
    /// A new version of a listener. False: refused (NACK), and the old one stays.
    pub(crate) fn load(&self, listener: &str, filter: Filter, boot: bool) -> Result<bool> {
        let key = filter.plugin_key(listener);
        if !self.canary(listener, &filter)? {
            self.sweep();
            return Ok(false);
        }
        let known = self.plugins.borrow().living(&key);
        let mut plugins = self.plugins.borrow_mut();
        let threads = self.settings.workers + 1;
        let plugin = known.unwrap_or_else(|| {
            let on = vec![OnThread::Absent; threads];
            let (instance, last_load) = (filter.instance(), vec![0; threads]);
            plugins.all.push(Plugin { filter, instance, key, holders: 0, on, last_load });
            plugins.all.len() - 1
        });
        let mut state = self.state.borrow_mut();
        plugins.all[plugin].holders += 1;
        plugins.generations.push(Generation { listener: listener.into(), plugin, is_drained: false });
        let generation = plugins.generations.len() - 1;
        if let Some(old) = plugins.newest.insert(listener.into(), generation) {
            let drain = self.settings.drain;
            state.after(drain, Event::Drained { generation: old });
        }
        state.trace_line(format_args!("listener {listener}: plugin {plugin}, generation {generation}"));
        // At boot the main thread is first. At a reload it goes on by itself while the workers find the new configuration
        // in their queues (`ThreadLocal::Slot::set`): one has been seen 2 ms before it.
        for thread in 0..threads {
            let delay = match boot {
                true => thread as u64 * 100,
                false => state.random.below(3 * MILLISECOND),
            };
            state.after(delay, Event::Configure { thread, generation });
        }
        Ok(true)
    }

    /// A listener is removed; its plugin ends when the drain ends.
    pub(crate) fn unload(&self, listener: &str) {
        let mut plugins = self.plugins.borrow_mut();
        plugins.serving.retain(|(name, _), _| name != listener);
        if let Some(generation) = plugins.newest.remove(listener) {
            let drain = self.settings.drain;
            self.state.borrow_mut().after(drain, Event::Drained { generation });
        }
    }

    /// A short-lived clone that takes the configuration or not. It is dropped without `on_done`, and its calls with it.
    /// Its answer is kept as long as the base VM (`WasmHandleBase::canary`).
    fn canary(&self, listener: &str, filter: &Filter) -> Result<bool> {
        let (vm_key, key) = (filter.vm_key(), filter.plugin_key(listener));
        {
            let mut plugins = self.plugins.borrow_mut();
            let base = plugins.bases.entry(vm_key.clone()).or_insert_with(|| Base {
                environment: filter.environment.clone(),
                canaried: [].into(),
                is_failed: false,
            });
            if base.is_failed {
                return Ok(false);
            }
            if let Some(answer) = base.canaried.get(&key) {
                return Ok(*answer);
            }
        }
        self.state.borrow_mut().trace_line(format_args!("canary"));
        let vm = self.make_vm(MAIN, filter)?;
        self.begin(MAIN);
        let taken = self.make_root(vm, filter).is_some();
        self.finish(MAIN);
        self.drop_vm(vm);
        if let Some(base) = self.plugins.borrow_mut().bases.get_mut(&vm_key) {
            base.canaried.insert(key, taken);
        }
        Ok(taken)
    }

    /// A generation of a listener comes to a thread. Its plugin may be there already.
    pub(crate) fn configure(&self, thread: usize, generation: usize) {
        let plugin = self.plugins.borrow().generations[generation].plugin;
        if self.plugins.borrow().all[plugin].holders == 0 {
            return;
        }
        let on = self.plugins.borrow().all[plugin].on[thread];
        if !matches!(on, OnThread::Living { .. }) && self.make_on_thread(thread, plugin).is_none() {
            let mut plugins = self.plugins.borrow_mut();
            let key = plugins.all[plugin].key.0.clone();
            if let Some(base) = plugins.bases.get_mut(&key) {
                base.is_failed = true;
            }
            let text = format!("thread {thread} refused a configuration that the canary took");
            self.state.borrow_mut().violation("configuration", text);
        }
        let mut plugins = self.plugins.borrow_mut();
        let listener = plugins.generations[generation].listener.clone();
        if plugins.newest.get(&listener) == Some(&generation) {
            plugins.serving.insert((listener, thread), generation);
        }
    }

    /// A root context for the plugin on a thread: in the thread's VM of that key, or in a new one.
    pub(crate) fn make_on_thread(&self, thread: usize, plugin: usize) -> Option<(VmId, u32)> {
        let filter = self.plugins.borrow().all[plugin].filter.clone();
        let place = (thread, filter.vm_key());
        let known = self.plugins.borrow().vms.get(&place).copied();
        let vm = match known {
            Some(vm) => vm,
            None => {
                let vm = self.make_vm(thread, &filter).ok()?;
                self.plugins.borrow_mut().vms.insert(place, vm);
                vm
            }
        };
        let now = self.state.borrow().now;
        self.plugins.borrow_mut().all[plugin].last_load[thread] = now;
        let Some(root) = self.make_root(vm, &filter) else {
            self.drop_unused(vm);
            return None;
        };
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
                instance: filter.instance(),
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

    /// A listener's drain has ended: what is left of its connections is closed, and a plugin that nobody holds any more ends.
    pub(crate) fn drained(&self, generation: usize) {
        let mut plugins = self.plugins.borrow_mut();
        let Some(old) = plugins.generations.get_mut(generation).filter(|old| !old.is_drained) else { return };
        old.is_drained = true;
        let plugin = old.plugin;
        plugins.all[plugin].holders -= 1;
        let mut state = self.state.borrow_mut();
        state.trace_line(format_args!("generation {generation} of plugin {plugin} ends"));
        for thread in 0..=self.settings.workers {
            let delay = state.random.below(3 * MILLISECOND);
            state.after(delay, Event::End { thread, generation });
        }
    }

    /// On one thread: `on_done`, then `on_delete`. The last root context takes the VM with it, and the last VM of a vm_id
    /// takes the shared data.
    pub(crate) fn end(&self, thread: usize, generation: usize) {
        self.close_connections(thread, generation);
        let plugin = self.plugins.borrow().generations[generation].plugin;
        if self.plugins.borrow().all[plugin].holders > 0 {
            return;
        }
        let on = std::mem::replace(&mut self.plugins.borrow_mut().all[plugin].on[thread], OnThread::Absent);
        if let OnThread::Living { vm, root } = on {
            match self.call(vm, Callback::Done { context: root }) {
                // It is parked: it still ticks and gets answers until it calls `proxy_done`.
                Some(0) => {
                    self.with(vm, |host| host.root(root).map(|root| root.is_pending_done = true));
                }
                Some(_) => self.delete(vm, root),
                None => self.state.borrow_mut().own.rules.context_gone(vm, root),
            }
            self.drop_unused(vm);
        }
        self.sweep();
    }

    /// A VM ends together with the last plugin that has a root context in it, whatever else is in it.
    fn drop_unused(&self, vm: VmId) {
        let mut plugins = self.plugins.borrow_mut();
        if plugins.on_vm(vm).next().is_none() {
            plugins.vms.retain(|_, other| *other != vm);
            drop(plugins);
            self.drop_vm(vm);
        }
    }

    /// A root context has ended regularly.
    pub(crate) fn delete(&self, vm: VmId, root: u32) {
        self.call(vm, Callback::Delete { context: root });
        self.with(vm, |host| host.contexts.remove(&root));
        self.state.borrow_mut().own.rules.context_gone(vm, root);
    }

    fn sweep(&self) {
        for vm_id in self.plugins.borrow_mut().sweep() {
            self.state.borrow_mut().own.forget(&vm_id);
        }
    }
}
