//! A plot: lines over points at even distances, as SVG that takes its colours from the page.

use super::escaped;
use std::fmt::Write as _;

/// Size of what is drawn in, in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 180.0;
/// Room for the figures at the left, for half a figure above, for the names below.
const LEFT: f64 = 70.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;
/// Lines across, between the lowest and the highest.
const STEPS: usize = 4;

/// A line, and the class that colours it.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) class: String,
    pub(super) values: Vec<f64>,
}

/// What is told at the foot of a plot: at which point, and what.
pub(super) type Mark = (f64, String);

/// How values stand above each other.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    Even,
    /// Nothing, one, ten, a hundred …, as far from each other: for counts of which some are rare.
    Decades,
}

/// Lines with what explains them.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) lines: Vec<Line>,
    pub(super) feet: &'a [Mark],
    /// Points at which something happened.
    pub(super) events: &'a [f64],
    pub(super) scale: Scale,
    pub(super) unit: fn(f64) -> String,
}

impl Plot<'_> {
    /// Nothing, where there is nothing to draw.
    pub(super) fn html(&self) -> String {
        let points = self.lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
        if points == 0 {
            return String::new();
        }
        let keys = self.lines.iter().map(|line| format!("<span class={}>{}</span>", line.class, escaped(&line.name)));
        let events = if self.events.is_empty() { "" } else { "<span class=event>policy changed</span>" };
        let key = format!("<p class=key>{}{events}</p>", keys.collect::<String>());
        format!("<h2>{}</h2>{key}{}", self.title, self.svg(points))
    }

    fn svg(&self, points: usize) -> String {
        let highest = self.lines.iter().flat_map(|line| &line.values).fold(0.0_f64, |top, value| top.max(*value));
        let steps = self.scale.steps(highest);
        let step = WIDTH / (points.saturating_sub(1).max(1) as f64);
        let (x, y) = (|at: f64| LEFT + at * step, |value: f64| TOP + HEIGHT * (1.0 - self.scale.share(value, &steps)));
        let (width, height) = (LEFT + WIDTH + 20.0, TOP + HEIGHT + BOTTOM);
        let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" role=img aria-label=\"{}\">", self.title);
        // Writing to a String does not fail, here and below.
        for value in &steps {
            let (y, right, text) = (y(*value), LEFT + WIDTH, (self.unit)(*value));
            let (beside, below) = (LEFT - 6.0, y + 4.0);
            let _ =
                write!(svg, "<path class=grid d=\"M{LEFT} {y:.1}H{right}\"/><text x={beside} y={below:.1} text-anchor=end>{text}</text>");
        }
        for (at, text) in self.feet {
            let _ = write!(svg, "<text x={:.1} y={} text-anchor=middle>{text}</text>", x(*at), height - 6.0);
        }
        for at in self.events.iter().filter(|at| (0.0..=points as f64 - 1.0).contains(*at)) {
            let _ = write!(svg, "<path class=event d=\"M{:.1} {TOP}v{HEIGHT}\"/>", x(*at));
        }
        for Line { class, values, .. } in &self.lines {
            let of = |(at, value): (usize, &f64)| format!("{:.1},{:.1}", x(at as f64), y(*value));
            match values.as_slice() {
                // A line of one point would not be seen.
                [only] => {
                    let _ = write!(svg, "<circle class={class} r=3 cx={LEFT} cy={:.1} />", y(*only));
                }
                values => {
                    let points: Vec<_> = values.iter().enumerate().map(of).collect();
                    let _ = write!(svg, "<polyline class={class} points=\"{}\"/>", points.join(" "));
                }
            }
        }
        svg + "</svg>"
    }
}

impl Scale {
    /// Values of the lines across, from nothing to one that is not below `highest`.
    fn steps(self, highest: f64) -> Vec<f64> {
        match self {
            Self::Even => (0..=STEPS).map(|at| round(highest) * at as f64 / STEPS as f64).collect(),
            Self::Decades => {
                let decades = highest.max(1.0).log10().ceil() as i32;
                std::iter::once(0.0).chain((0..=decades).map(|decade| 10_f64.powi(decade))).collect()
            }
        }
    }

    /// How far up a value stands.
    fn share(self, value: f64, steps: &[f64]) -> f64 {
        match self {
            Self::Even => value / steps.last().copied().unwrap_or(1.0),
            Self::Decades if value < 1.0 => 0.0,
            Self::Decades => (1.0 + value.log10()) / (steps.len() - 1) as f64,
        }
    }
}

/// The least number above `highest` whose quarters are short to write.
fn round(highest: f64) -> f64 {
    if highest <= 0.0 {
        return STEPS as f64;
    }
    let power = 10_f64.powf(highest.log10().floor());
    let fits = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0].map(|factor| factor * power);
    fits.into_iter().find(|fits| *fits >= highest).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: &[f64], events: &[f64]) -> String {
        let line = Line { name: "a<b".to_owned(), class: "s0".to_owned(), values: values.to_vec() };
        Plot {
            title: "t",
            lines: vec![line],
            feet: &[(0.0, "1 s".to_owned())],
            events,
            scale: Scale::Even,
            unit: |value| format!("{value}"),
        }
        .html()
    }

    #[test]
    fn a_scale_begins_at_zero_and_ends_above_the_highest() {
        for (highest, top) in [(0.0, 4.0), (1.0, 1.0), (1.01, 1.2), (7.0, 8.0), (99.0, 100.0), (0.13, 0.16), (12_345.0, 16_000.0)] {
            assert!((round(highest) - top).abs() < 1e-9, "{} for {highest}", round(highest));
        }
        let drawn = plot(&[0.0, 8.0], &[]);
        assert!(drawn.contains("points=\"70.0,188.0 790.0,8.0\""), "{drawn}");
        assert!(drawn.contains(">0</text>") && drawn.contains(">8</text>"), "{drawn}");
    }

    #[test]
    fn what_is_rare_is_seen_beside_what_is_frequent() {
        let steps = Scale::Decades.steps(1_500.0);
        assert_eq!(steps, [0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        for (at, value) in steps.iter().enumerate() {
            assert!((Scale::Decades.share(*value, &steps) - at as f64 / 5.0).abs() < 1e-9, "{value}");
        }
        assert_eq!(Scale::Decades.steps(0.0), [0.0, 1.0]);
    }

    #[test]
    fn one_point_is_seen_and_none_draws_nothing() {
        assert!(plot(&[3.0], &[]).contains("<circle"));
        assert_eq!(plot(&[], &[]), "");
    }

    #[test]
    fn what_happened_within_the_plot_is_marked() {
        let drawn = plot(&[1.0, 2.0, 3.0], &[-0.5, 0.5, 1.0, 7.0]);
        assert_eq!(drawn.matches("<path class=event").count(), 2, "{drawn}");
        assert!(drawn.contains("policy changed") && drawn.contains("a&lt;b"), "{drawn}");
    }
}
