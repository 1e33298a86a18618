//! Routes side by side, as an SVG: bars on a logarithmic axis.

use std::fmt::Write as _;

use weir_fleet::Latency;

use super::escaped;
use super::lines::short;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 34.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 44.0;

/// One bar for each name, from 1 to the next decade.
pub(super) fn bars(label: &str, values: &[(&str, f64)]) -> String {
    let highest = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let axis = Axis { decades: (0, ceil_decade(highest)) };
    let mut svg = opened(label, values.len(), &axis);
    for (row, (name, value)) in values.iter().enumerate() {
        let (y, x) = (top_of(row), axis.x(*value));
        write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar a\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"3\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 10.0,
            y + 16.0,
            escaped(name),
            (x - LEFT).max(1.0),
            ROW - 12.0,
            x + 8.0,
            y + 16.0,
            short(value.round())
        )
        .ok();
    }
    svg + "</svg>"
}

/// For each name a line from the median to the 99.9th percentile, with marks for those between.
pub(super) fn ranges(label: &str, values: &[(&str, Latency)]) -> String {
    let highest = values.iter().map(|(_, latency)| latency.p999).fold(1.0, f64::max);
    let axis = Axis { decades: (-1, ceil_decade(highest)) };
    let mut svg = opened(label, values.len(), &axis);
    for (row, (name, latency)) in values.iter().enumerate() {
        let y = top_of(row) + 11.0;
        write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <line class=\"range\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            LEFT - 10.0,
            y + 5.0,
            escaped(name),
            axis.x(latency.p50),
            axis.x(latency.p999)
        )
        .ok();
        let dots = [
            ('a', "p50", latency.p50),
            ('b', "p90", latency.p90),
            ('c', "p99", latency.p99),
            ('d', "p99.9", latency.p999),
        ];
        for (colour, percentile, value) in dots {
            write!(
                svg,
                "<circle class=\"dot {colour}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"6\"><title>{percentile} {value:.1} ms</title></circle>",
                axis.x(value)
            )
            .ok();
        }
    }
    svg + "</svg>"
}

struct Axis {
    /// Powers of ten, from the left end to the right.
    decades: (i32, i32),
}

impl Axis {
    fn x(&self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let part = ((value.max(1e-9).log10() - low) / (high - low)).clamp(0.0, 1.0);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }
}

fn ceil_decade(value: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a count or of milliseconds")]
    let decade = value.max(10.0).log10().ceil() as i32;
    decade
}

fn top_of(row: usize) -> f64 {
    TOP + row as f64 * ROW
}

/// The SVG's beginning: its axis and its marks.
fn opened(label: &str, rows: usize, axis: &Axis) -> String {
    let height = top_of(rows) + BOTTOM;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">", escaped(label));
    for decade in axis.decades.0..=axis.decades.1 {
        let value = 10_f64.powi(decade);
        let x = axis.x(value);
        write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
             <text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            top_of(rows),
            top_of(rows) + 16.0,
            short(value)
        )
        .ok();
    }
    write!(
        svg,
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        height - 6.0,
        escaped(label)
    )
    .ok();
    svg
}
