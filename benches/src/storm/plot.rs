//! Curves over time as one SVG file that needs nothing else. The scale of values is logarithmic: a core's rate with a node before it
//! and without are decades apart.

use std::fmt::Write as _;

use super::report::{Panel, Report};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 58.0;
const PANEL: f64 = 190.0;
const GAP: f64 = 74.0;
/// Points of a curve, at most; each is the mean of its seconds.
const POINTS: usize = 320;
const COLOURS: [&str; 4] = ["#0b6bcb", "#d1431f", "#2f8f4e", "#7a5195"];

/// The plot of a report, its panels below each other.
pub(super) fn svg(report: &Report) -> String {
    let height = TOP + report.panels.len() as f64 * (PANEL + GAP);
    let without = report.without.as_ref().map_or(String::new(), |name| format!(" without {name}"));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"17\" font-weight=\"bold\">{}{}</text>\n",
        escaped(&report.scenario),
        escaped(&without),
    );
    for (number, panel) in report.panels.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL + GAP);
        draw(&mut svg, panel, Frame::new(panel, top), &report.moments);
    }
    svg + "</svg>\n"
}

/// Where the values of a panel lie.
#[derive(Clone, Copy)]
struct Frame {
    top: f64,
    seconds: f64,
    /// Powers of ten at the lower and the upper edge.
    decades: (i32, i32),
}

impl Frame {
    fn new(panel: &Panel, top: f64) -> Self {
        let seconds = panel.curves.iter().map(|curve| curve.values.len()).max().unwrap_or(0).max(1) as f64;
        let values = || panel.curves.iter().flat_map(|curve| points(&curve.values)).map(|(_, value)| value);
        let highest = values().fold(1.0, f64::max);
        let lowest = values().filter(|value| *value > 0.0).fold(highest, f64::min);
        #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a rate")]
        let decade = |value: f64| value as i32;
        let high = decade(highest.log10().ceil()).max(1);
        let low = decade(lowest.max(0.1).log10().floor()).clamp(high - 5, high - 1);
        Self { top, seconds, decades: (low, high) }
    }

    fn x(self, second: f64) -> f64 {
        LEFT + second / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    /// Nothing at all lies on the lower edge.
    fn y(self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let part = if value > 0.0 { ((value.log10() - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        self.top + PANEL * (1.0 - part)
    }
}

fn draw(svg: &mut String, panel: &Panel, frame: Frame, moments: &[(u32, String)]) {
    let (top, bottom, right) = (frame.top, frame.top + PANEL, WIDTH - RIGHT);
    // Writing to a string cannot fail.
    write!(svg, "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>", top - 8.0, escaped(&panel.title)).ok();
    for decade in frame.decades.0..=frame.decades.1 {
        let (value, y) = (10_f64.powi(decade), frame.y(10_f64.powi(decade)));
        write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            y + 4.0
        )
        .ok();
    }
    for (second, what) in moments.iter().filter(|(second, _)| f64::from(*second) < frame.seconds) {
        let x = frame.x(f64::from(*second));
        write!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\" stroke=\"#888\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#666\">{}</text>",
            x + 4.0,
            top - 8.0,
            escaped(what)
        )
        .ok();
    }
    for (number, curve) in panel.curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let line: Vec<String> =
            points(&curve.values).map(|(x, y)| format!("{:.1},{:.1}", frame.x(x), frame.y(y))).collect();
        let x = LEFT + 150.0 * number as f64;
        write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"/>\
             <rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"3\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            line.join(" "),
            bottom + 31.0,
            x + 20.0,
            bottom + 36.0,
            escaped(&curve.name)
        )
        .ok();
    }
    for part in 0..=6 {
        let second = frame.seconds * f64::from(part) / 6.0;
        write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            frame.x(second),
            bottom + 16.0,
            clock(second)
        )
        .ok();
    }
}

/// The middle of some seconds and their mean, so that there are not too many.
fn points(values: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    let length = values.len().div_ceil(POINTS).max(1);
    values.chunks(length).enumerate().map(move |(number, chunk)| {
        let middle = (number * length) as f64 + chunk.len() as f64 / 2.0;
        (middle, chunk.iter().sum::<f64>() / chunk.len() as f64)
    })
}

fn clock(second: f64) -> String {
    if second < 180.0 {
        return format!("{second:.0} s");
    }
    format!("{:.0} min", second / 60.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::report::Curve;
    use super::*;

    #[test]
    fn a_plot_is_one_well_formed_file_with_all_its_curves() {
        let curves = vec![Curve::new("with <Weir>", [0.0, 20.0, 30.0]), Curve::new("direct", vec![1_000.0; 5_000])];
        let report = Report {
            scenario: "recovery".into(),
            panels: vec![Panel { title: "requests/s".into(), curves }],
            moments: vec![(2, "core down".into())],
            ..Report::default()
        };
        let svg = svg(&report);
        assert!(svg.contains("with &lt;Weir&gt;") && svg.contains("core down"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.len() < 20_000, "{}", svg.len());
    }
}
