//! What people ask for: the list of checks, as JSON or as a page, and a preflight.

use crate::host::{self, Header, SharedData};
use crate::root::{Awaited, Plugin};
use crate::stream::Stream;
use proxy_wasm::types::Action;
use testrelay::surface::exchange::Exchange;
use testrelay::surface::listing::{Asked, Listing};
use testrelay::surface::preflight::{self, Inquiry};

impl Stream {
    /// Lists the checks that are asked for.
    pub(crate) fn checks(&mut self, plugin: &Plugin, headers: &[Header<'_>], asked: Asked<'_>) -> Action {
        let listing = match Listing::new(&plugin.config, &plugin.prefix, &mut SharedData, headers, asked) {
            Ok(listing) => listing,
            Err(refusal) => return self.answer(&refusal),
        };
        if listing.asks() {
            if !plugin.has_room_to_list(listing.caller()) {
                return self.answer(&listing.busy());
            }
            plugin.waits(self.context_id, Awaited::Listing(listing.caller()));
        }
        self.begin(plugin, Exchange::Listing(Box::new(listing)), headers)
    }

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
