//! Figures over time, as an SVG.

use std::fmt::Write as _;

use super::escaped;

/// Lines over the seconds of a run.
pub(super) struct Chart<'a> {
    /// What the y axis shows, with its unit.
    pub(super) y_label: &'a str,
    pub(super) scale: Scale,
    /// Seconds of the run.
    pub(super) seconds: f64,
    /// From when to when the core was down.
    pub(super) outage: Option<(f64, f64)>,
    pub(super) lines: Vec<Line<'a>>,
    /// Levels to compare with.
    pub(super) levels: Vec<Level>,
}

/// One line: a colour of the style sheet (`a` to `d`), a name, and its points.
pub(super) struct Line<'a> {
    pub(super) colour: char,
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A dashed line across.
pub(super) struct Level {
    pub(super) name: String,
    pub(super) y: f64,
}

/// How the y axis runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// In decades. Zero stands at the bottom.
    Log,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;

/// The y axis: its range and its marks.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    marks: Vec<f64>,
}

impl Chart<'_> {
    pub(super) fn svg(&self) -> String {
        let axis = self.axis();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over seconds\">",
            escaped(self.y_label)
        );
        self.draw_outage(&mut svg);
        self.draw_axes(&mut svg, &axis);
        for level in &self.levels {
            let y = axis.y(level.y);
            write!(
                svg,
                "<line class=\"level\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"note\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                WIDTH - RIGHT - 4.0,
                y - 5.0,
                escaped(&level.name)
            )
            .ok();
        }
        for line in &self.lines {
            let points: Vec<String> =
                line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.x(*x), axis.y(*y))).collect();
            write!(svg, "<polyline class=\"line {}\" points=\"{}\"/>", line.colour, points.join(" ")).ok();
        }
        self.draw_legend(&mut svg);
        svg + "</svg>"
    }

    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (second / self.seconds.max(1.0)).clamp(0.0, 1.0)
    }

    fn axis(&self) -> Axis {
        let values = self.lines.iter().flat_map(|line| line.points.iter().map(|(_, y)| *y));
        let high = values.chain(self.levels.iter().map(|level| level.y)).fold(0.0, f64::max);
        Axis::new(self.scale, high)
    }

    fn draw_outage(&self, svg: &mut String) {
        let Some((from, to)) = self.outage else { return };
        let (from, to) = (self.x(from), self.x(to));
        write!(
            svg,
            "<rect class=\"outage\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text class=\"note\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">core down</text>",
            to - from,
            HEIGHT - TOP - BOTTOM,
            f64::midpoint(from, to),
            TOP + 14.0
        )
        .ok();
    }

    fn draw_axes(&self, svg: &mut String, axis: &Axis) {
        for mark in &axis.marks {
            let y = axis.y(*mark);
            write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                short(*mark)
            )
            .ok();
        }
        let step = step(self.seconds, 9.0).max(1.0);
        let mut second = 0.0;
        while second <= self.seconds + 1e-9 {
            let x = self.x(second);
            write!(
                svg,
                "<text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second:.0}</text>",
                HEIGHT - BOTTOM + 18.0
            )
            .ok();
            second += step;
        }
        write!(
            svg,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seconds since the first request</text>\
             <text class=\"label\" x=\"0\" y=\"14\">{}</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 4.0,
            escaped(self.y_label)
        )
        .ok();
    }

    /// Names on the right of the top line, from right to left.
    fn draw_legend(&self, svg: &mut String) {
        let mut x = WIDTH - RIGHT;
        for line in self.lines.iter().rev() {
            // About the width of a character of the style sheet's font.
            x -= line.name.chars().count() as f64 * 6.6;
            write!(
                svg,
                "<text class=\"legend\" x=\"{x:.1}\" y=\"14\">{}</text>\
                 <line class=\"line {}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"10\" y2=\"10\"/>",
                escaped(line.name),
                line.colour,
                x - 24.0,
                x - 6.0
            )
            .ok();
            x -= 44.0;
        }
    }
}

impl Axis {
    fn new(scale: Scale, high: f64) -> Self {
        match scale {
            Scale::Linear => {
                let step = step(high.max(1.0), 4.0);
                let count = (high.max(1.0) / step).ceil();
                let marks = (0_u32..=10).map(f64::from).take_while(|at| *at <= count).map(|at| at * step).collect();
                Self { scale, low: 0.0, high: count * step, marks }
            }
            Scale::Log => {
                let decades = high.max(10.0).log10().ceil();
                let marks =
                    (0_i32..=12).filter(|decade| f64::from(*decade) <= decades).map(|decade| 10_f64.powi(decade));
                Self { scale, low: 0.0, high: decades, marks: marks.collect() }
            }
        }
    }

    fn y(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            // Below one there is only the bottom line.
            Scale::Log => value.max(1.0).log10(),
        };
        let part = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }
}

/// A round step that cuts `range` into about `parts`.
fn step(range: f64, parts: f64) -> f64 {
    let raw = (range / parts).max(1e-9);
    let decade = 10_f64.powf(raw.log10().floor());
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|round| round * decade >= raw).unwrap_or(10.0);
    round * decade
}

/// A mark of an axis: `2500000` as `2.5M`.
pub(super) fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let text = format!("{value:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks_and_room_for_the_highest_value() {
        let axis = Axis::new(Scale::Linear, 23.0);
        assert_eq!(axis.marks, [0.0, 10.0, 20.0, 30.0]);
        assert!(axis.y(23.0) > TOP && axis.y(0.0) <= HEIGHT - BOTTOM);
        let axis = Axis::new(Scale::Log, 4_000.0);
        assert_eq!(axis.marks, [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((axis.y(0.0) - (HEIGHT - BOTTOM)).abs() < 1e-9);
    }

    #[test]
    fn marks_are_short() {
        assert_eq!(["0", "2.5", "1000", "20k", "1.5M"], [0.0, 2.5, 1e3, 2e4, 1.5e6].map(short)[..]);
    }
}
