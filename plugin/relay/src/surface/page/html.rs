//! HTML of markup and escaped text. There is no third way in, so no text from outside can become markup.

use crate::text::is_plain;
use crate::time::Wall;

/// Maximum length of a link, in bytes. A longer address is not linked.
const MAX_LINK: usize = 512;

/// A piece of HTML that grows.
pub(super) struct Html {
    out: String,
}

impl Html {
    pub(super) fn with_capacity(bytes: usize) -> Html {
        Html { out: String::with_capacity(bytes) }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    /// Markup, or words of ours. Not inlined, as others here: called in hundreds of places, it would be a third of the pages'
    /// code.
    #[inline(never)]
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.out.push_str(markup);
        self
    }

    /// A text from outside, cut to `most` bytes of HTML. What is written from right to left cannot reorder what is
    /// around it.
    #[inline(never)]
    pub(super) fn text(&mut self, text: &str, most: usize) -> &mut Html {
        self.raw("<bdi>").escaped(text, most).raw("</bdi>")
    }

    /// The same for an attribute's value in double quotes, or for `<title>`, where no element can be.
    #[inline(never)]
    pub(super) fn escaped(&mut self, text: &str, most: usize) -> &mut Html {
        const CUT: &str = "…";
        let end = self.out.len().saturating_add(most);
        let mut fits = self.out.len();
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                '\t' | '\n' | '\r' => self.out.push(' '),
                c if !is_plain(c) => self.out.push('·'),
                c => self.out.push(c),
            }
            if self.out.len() > end {
                self.out.truncate(fits);
                self.out.push_str(CUT);
                return self;
            }
            if self.out.len().saturating_add(CUT.len()) <= end {
                fits = self.out.len();
            }
        }
        self
    }

    /// A text from outside, as a link if `address` is one that may be followed.
    #[inline(never)]
    pub(super) fn link(&mut self, address: Option<&str>, text: &str, most: usize) -> &mut Html {
        let Some(address) = address.filter(|address| is_link(address)) else { return self.text(text, most) };
        // Each byte may become the six of `&quot;`.
        self.raw("<a href=\"").escaped(address, MAX_LINK * 6).raw("\">").text(text, most).raw("</a>")
    }

    #[inline(never)]
    pub(super) fn number(&mut self, number: u64) -> &mut Html {
        let (more, digit) = (number / 10, number % 10);
        if more > 0 {
            self.number(more);
        }
        self.out.extend(u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 10)));
        self
    }

    /// A time as people say it, such as `4 min ago`, with the exact one in its title.
    #[inline(never)]
    pub(super) fn time(&mut self, at: Wall, now: Wall) -> &mut Html {
        let seconds = at.0.abs_diff(now.0) / 1_000;
        match (seconds, at > now) {
            (0, _) => self.exact(at).raw("now"),
            (_, true) => self.exact(at).raw("in ").span(seconds),
            (_, false) => self.exact(at).span(seconds).raw(" ago"),
        };
        self.raw("</time>")
    }

    /// The time since then, such as `for 4 min`, with the exact time in its title.
    #[inline(never)]
    pub(super) fn lasting(&mut self, since: Wall, now: Wall) -> &mut Html {
        let seconds = u64::try_from(now.0.saturating_sub(since.0)).unwrap_or_default() / 1_000;
        self.raw("for ").exact(since).span(seconds).raw("</time>")
    }

    /// The beginning of an element that is a time.
    fn exact(&mut self, at: Wall) -> &mut Html {
        let exact = at.to_string();
        let (day, time) = (exact.get(..10).unwrap_or_default(), exact.get(11..19).unwrap_or_default());
        self.raw("<time datetime=\"").plain(day).raw("T").plain(time).raw("Z\" title=\"").plain(day).raw(" ");
        self.plain(time).raw(" UTC\">")
    }

    /// `23:10:00 UTC`, with the date in front if `now` is on another day.
    #[inline(never)]
    pub(super) fn clock(&mut self, at: Wall, now: Wall) -> &mut Html {
        let (exact, today) = (at.to_string(), now.to_string());
        let (day, time) = (exact.get(..10).unwrap_or_default(), exact.get(11..19).unwrap_or_default());
        if !today.starts_with(day) {
            self.plain(day).raw(" ");
        }
        self.plain(time).raw(" UTC")
    }

    /// A length of time: its one or two largest units.
    #[inline(never)]
    pub(super) fn span(&mut self, seconds: u64) -> &mut Html {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        let (large, name, small, rest) = match seconds {
            0..MINUTE => return self.number(seconds).raw(" s"),
            MINUTE..HOUR => (MINUTE, " min", 1, " s"),
            HOUR..DAY => (HOUR, " h", MINUTE, " min"),
            _ => (DAY, " d", HOUR, " h"),
        };
        self.number(seconds / large).raw(name);
        let left = seconds % large / small;
        // Seconds say nothing beside many minutes.
        if left > 0 && seconds / large < 10 {
            self.raw(" ").number(left).raw(rest);
        }
        self
    }

    /// Digits and signs of a time.
    fn plain(&mut self, text: &str) -> &mut Html {
        self.escaped(text, 32)
    }
}

/// Whether an address may be a link's target: `https` or `http`, both of which may be configured, without anything that a
/// browser could read as something else.
fn is_link(address: &str) -> bool {
    (address.starts_with("https://") || address.starts_with("http://"))
        && address.len() <= MAX_LINK
        && address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(make: impl FnOnce(&mut Html) -> &mut Html) -> String {
        let mut html = Html::with_capacity(64);
        make(&mut html);
        html.finish()
    }

    #[test]
    fn a_text_from_outside_stays_a_text() {
        for (given, want) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\"><img src=x onerror='x'>", "&quot;&gt;&lt;img src=x onerror=&#39;x&#39;&gt;"),
            ("&lt;", "&amp;lt;"),
            ("shop\u{202e}gpj.exe\u{2066}\u{61c}", "shop·gpj.exe··"),
            ("a\r\nb\u{1b}[1m\0", "a  b·[1m·"),
            ("тест שלום", "тест שלום"),
        ] {
            assert_eq!(made(|html| html.text(given, 200)), format!("<bdi>{want}</bdi>"));
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        for given in ["x", "<", "é", "🦀", "\u{202e}"] {
            let cut = made(|html| html.escaped(&given.repeat(10_000), 100));
            assert!(cut.len() <= 100 && cut.len() > 90 && cut.ends_with('…'), "{cut}");
            let whole = made(|html| html.escaped(given, 6));
            assert!(!whole.ends_with('…'), "{whole}");
        }
        assert_eq!(made(|html| html.escaped("abcdef", 6)), "abcdef");
        assert_eq!(made(|html| html.escaped("abcdefg", 6)), "abc…");
        assert_eq!(made(|html| html.escaped("a<<", 6)), "a…");
    }

    #[test]
    fn only_http_and_https_are_linked() {
        let link = |address: &str| made(|html| html.link(Some(address), "x", 10));
        assert_eq!(
            link("https://example.com/a?b=1&c=\"'"),
            "<a href=\"https://example.com/a?b=1&amp;c=&quot;&#39;\"><bdi>x</bdi></a>"
        );
        let long = format!("https://{}", "x".repeat(10_000));
        for address in
            ["javascript:alert(1)", "//a", "data:text/html,x", "https://a b", "https://a\\b", &long]
        {
            assert_eq!(link(address), "<bdi>x</bdi>", "{address}");
        }
    }

    #[test]
    fn times_are_relative_and_have_the_exact_one_in_their_title() {
        let now = Wall::parse("2026-11-29T23:10:00Z").unwrap();
        let at = |text: &str| made(|html| html.time(Wall::parse(text).unwrap(), now));
        assert_eq!(
            at("2026-11-29T22:58:30.123Z"),
            "<time datetime=\"2026-11-29T22:58:30Z\" title=\"2026-11-29 22:58:30 UTC\">11 min ago</time>"
        );
        for (text, want) in [
            ("2026-11-29T23:10:00.900Z", ">now<"),
            ("2026-11-29T23:09:18Z", ">42 s ago<"),
            ("2026-11-29T23:14:05Z", ">in 4 min 5 s<"),
            ("2026-11-29T20:00:00Z", ">3 h 10 min ago<"),
            ("2026-11-26T21:10:00Z", ">3 d 2 h ago<"),
            ("0001-01-01T00:00:00Z", " d ago<"),
        ] {
            assert!(at(text).contains(want), "{}", at(text));
        }
    }
}
