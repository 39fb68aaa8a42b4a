//! Rule `one results call`: a context has one call for the results of tests under way: a file comes into the VM as a whole.

use super::Rules;
use crate::network::Outgoing;
use crate::vm::VmId;

/// The calls for results that are under way: VM, root context, token, and when each is given up.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<(VmId, u32, u32, u64)>);

impl Rules {
    /// A root context starts a call.
    pub(super) fn one_result(&mut self, now: u64, outgoing: &Outgoing) {
        let path = outgoing.request.path();
        if !path.contains("/test-workflow-executions/") || !path.contains("/artifacts") {
            return;
        }
        self.checked("one results call");
        let (vm, root) = (outgoing.vm, outgoing.root);
        self.results.0.retain(|(.., until)| now < *until);
        if self.results.0.iter().any(|(other, context, ..)| (*other, *context) == (vm, root)) {
            let text = format!("vm {} root {root} asks for {path} before an answer", vm.0);
            self.violation(now, "one results call", text);
        }
        self.results.0.push((vm, root, outgoing.token, outgoing.callback_began + outgoing.timeout));
    }

    /// A call was refused, or its answer is about to be read.
    pub(super) fn result_ends(&mut self, vm: VmId, token: u32) {
        self.results.0.retain(|(of, _, call, _)| (*of, *call) != (vm, token));
    }
}
