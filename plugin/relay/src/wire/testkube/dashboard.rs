//! Links to the page of an execution.

/// The URL template of an execution's page, with `{id}` and optionally `{workflow}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dashboard(String);

impl Dashboard {
    /// Reads a template; `None` if it is not valid.
    pub fn parse(text: &str) -> Option<Dashboard> {
        let places = text.replace("{id}", "").replace("{workflow}", "");
        let rest = places.strip_prefix("https://").or_else(|| places.strip_prefix("http://"));
        let is_good = text.len() <= 300
            && text.contains("{id}")
            && rest.is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_graphic() && !b"{}<>\"\\^`|".contains(&c))
            });
        is_good.then(|| Dashboard(text.to_string()))
    }

    /// The page of one execution.
    pub fn link(&self, workflow: &str, id: &str) -> String {
        let encoded =
            |text: &str| crate::wire::percent::percent_encoded(&crate::text::clip(text.into(), 120));
        self.0.replace("{id}", &encoded(id)).replace("{workflow}", &encoded(workflow))
    }
}
