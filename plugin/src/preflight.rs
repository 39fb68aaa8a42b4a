//! A request for a preflight.

use crate::host::{self, Header, SharedData};
use crate::root::{Awaited, Plugin};
use crate::stream::Stream;
use proxy_wasm::types::Action;
use testrelay::surface::exchange::Exchange;
use testrelay::surface::preflight::{self, Inquiry};

impl Stream {
    /// Answers what is known, or begins to ask. It has the room of lists: both are asked for by people.
    pub(crate) fn preflight(&mut self, plugin: &Plugin, headers: &[Header<'_>]) -> Action {
        let inquiry =
            match Inquiry::new(&plugin.config, &plugin.prefix, &mut SharedData, host::now(), headers) {
                Ok(inquiry) => inquiry,
                Err(answer) => return self.answer(&answer),
            };
        if !plugin.has_room_to_list(inquiry.caller()) {
            return self.answer(&preflight::busy());
        }
        plugin.waits(self.context_id, Awaited::Preflight(inquiry.caller()));
        self.begin(plugin, Exchange::Preflight(Box::new(inquiry)), headers)
    }
}
