//! Members of the list's JSON. Any may be absent, null or of another type.

use crate::time::Wall;
use serde_json::Value;

/// An object of the list.
#[derive(Clone, Copy)]
pub(super) struct Members<'a>(pub(super) &'a Value);

impl<'a> Members<'a> {
    #[inline(never)]
    fn member(self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    /// A text that is not empty.
    #[inline(never)]
    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.member(name)?.as_str().filter(|text| !text.is_empty())
    }

    #[inline(never)]
    pub(super) fn number(self, name: &str) -> Option<u64> {
        self.member(name)?.as_u64()
    }

    #[inline(never)]
    pub(super) fn time(self, name: &str) -> Option<Wall> {
        self.text(name).and_then(Wall::parse)
    }

    #[inline(never)]
    pub(super) fn is(self, name: &str) -> bool {
        self.member(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// An object.
    #[inline(never)]
    pub(super) fn object(self, name: &str) -> Option<Members<'a>> {
        self.member(name).filter(|member| member.is_object()).map(Members)
    }

    /// The items of a list; none if there is no list.
    #[inline(never)]
    pub(super) fn items(self, name: &str) -> &'a [Value] {
        self.member(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }
}
