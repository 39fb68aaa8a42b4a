//! Spans of time as bars: SVG of attributes and classes alone, which the pages' policy allows.

use super::html::Html;
use crate::time::Wall;

/// How many parts an axis has.
const PARTS: u64 = 1_000;

/// A span of time that bars are drawn to scale of.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    from: Wall,
    length: u64,
}

impl Axis {
    /// From the earliest time to the latest one; `None` without any.
    pub(super) fn over(times: impl IntoIterator<Item = Wall>) -> Option<Axis> {
        let mut times = times.into_iter();
        let first = times.next()?;
        let (from, to) = times.fold((first, first), |(from, to), at| (from.min(at), to.max(at)));
        Some(Axis { from, length: to.0.abs_diff(from.0).max(1) })
    }

    fn part(self, at: Wall) -> u64 {
        let since = if at > self.from { at.0.abs_diff(self.from.0).min(self.length) } else { 0 };
        u64::try_from(u128::from(since) * u128::from(PARTS) / u128::from(self.length)).unwrap_or(PARTS)
    }
}

/// One span.
pub(super) struct Bar {
    pub(super) from: Wall,
    pub(super) to: Wall,
    pub(super) class: &'static str,
}

/// Bars on one line. `title` says in words what they show.
pub(super) fn draw(html: &mut Html, axis: Axis, bars: &[Bar], title: impl FnOnce(&mut Html)) {
    html.raw("<svg role=\"img\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\"><title>");
    title(html);
    html.raw("</title>");
    for bar in bars {
        let (from, to) = (axis.part(bar.from), axis.part(bar.to));
        // What took no time is seen too.
        let width = to.saturating_sub(from).max(4);
        html.raw("<rect class=\"").raw(bar.class).raw("\" x=\"").number(from.min(PARTS - 4));
        html.raw("\" y=\"0\" width=\"").number(width).raw("\" height=\"10\"/>");
    }
    html.raw("</svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_to_scale_and_stay_on_the_axis() {
        let axis = Axis::over([Wall(1_000), Wall(5_000)]).unwrap();
        let bar = |from, to| Bar { from: Wall(from), to: Wall(to), class: "ok" };
        let mut html = Html::with_capacity(0);
        let bars = [bar(1_000, 2_000), bar(5_000, 9_000), bar(-7, 3_000)];
        draw(&mut html, axis, &bars, |html| {
            html.raw("t");
        });
        let drawn = html.finish();
        for want in [
            "x=\"0\" y=\"0\" width=\"250\"",
            "x=\"996\" y=\"0\" width=\"4\"",
            "x=\"0\" y=\"0\" width=\"500\"",
        ] {
            assert!(drawn.contains(want), "{drawn}");
        }
        assert!(Axis::over([]).is_none());
        assert_eq!(Axis::over([Wall(i64::MIN), Wall(i64::MAX)]).unwrap().part(Wall(i64::MAX)), PARTS);
    }
}
