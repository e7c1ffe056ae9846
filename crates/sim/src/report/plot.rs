//! Lines over time, as a drawing that scales with the page and says in words what it shows.

use pilotage_lens::page::{Scale, escape};

use super::text::{short, time};

/// The drawing's size. It is small, so that what is written in it stays readable on a phone.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 270.0;

/// Where the axes cross and end.
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 42.0;

/// Points that one line has at most: more are not seen.
const POINTS_MAX: usize = 400;

/// The class of lines that have no colour of their own, and so no place in the key.
pub(super) const OTHER: &str = "other";

/// Lines over time.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    /// Names the drawing in the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// What a reader who does not see it should know.
    pub(super) description: String,
    /// The end of time, in seconds.
    pub(super) seconds: f64,
    pub(super) lines: Vec<Line<'a>>,
    /// A level that lines should stay below.
    pub(super) bound: Option<f64>,
}

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// Its colour and dashes, as the style sheet has them.
    pub(super) class: String,
    /// Seconds and values.
    pub(super) points: Vec<(f64, f64)>,
}

impl Plot<'_> {
    /// The drawing.
    pub(super) fn svg(&self) -> String {
        let most = self.lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let most = most.fold(self.bound.unwrap_or(0.0) * 1.05, f64::max);
        let x = Scale::new(self.seconds, 5.0, (LEFT, RIGHT)).ending(self.seconds);
        let y = Scale::new(most, 5.0, (BOTTOM, TOP));
        let Self { id, .. } = self;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-labelledby=\"{id}-title {id}-desc\">\
             <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
            escape(self.title),
            escape(&self.description),
        );
        svg.push_str(&axes(x, y));
        self.lines.iter().for_each(|line| svg.push_str(&line.svg(x, y)));
        if let Some(bound) = self.bound {
            let at = y.place(bound);
            svg.push_str(&format!(
                "<path class=\"bound\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>\
                 <text class=\"bound-name\" x=\"{RIGHT}\" y=\"{:.1}\">bound {}</text>",
                at - 5.0,
                short(bound),
            ));
        }
        svg.push_str("</svg>");
        svg
    }

    /// Which line is which, below the drawing. One line needs no key.
    pub(super) fn key(&self) -> String {
        if self.lines.len() < 2 {
            return String::new();
        }
        let coloured = self.lines.iter().filter(|line| line.class != OTHER);
        let items = coloured.map(|line| {
            format!(
                "<li><svg viewBox=\"0 0 28 8\" aria-hidden=\"true\">\
                 <path class=\"line {}\" d=\"M1 4H27\"/></svg>{}</li>",
                line.class,
                escape(line.name),
            )
        });
        format!("<ul class=\"key\">{}</ul>", items.collect::<String>())
    }
}

impl Line<'_> {
    fn svg(&self, x: Scale, y: Scale) -> String {
        let every = self.points.len().div_ceil(POINTS_MAX).max(1);
        let last = self.points.len().saturating_sub(1);
        let shown = self.points.iter().enumerate();
        let shown = shown.filter(|(number, _)| number % every == 0 || *number == last);
        let mut path = String::new();
        for (_, (at, value)) in shown {
            let step = if path.is_empty() { 'M' } else { 'L' };
            path.push_str(&format!("{step}{:.1} {:.1}", x.place(*at), y.place(*value)));
        }
        let name = escape(self.name);
        format!("<path class=\"line {}\" d=\"{path}\"><title>{name}</title></path>", self.class)
    }
}

/// A grid with numbers: time along the bottom, values at the left.
fn axes(x: Scale, y: Scale) -> String {
    let mut axes = String::new();
    for mark in y.marks() {
        let at = y.place(mark);
        axes.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>\
             <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            at + 4.5,
            short(mark),
        ));
    }
    for mark in x.marks() {
        let at = x.place(mark);
        axes.push_str(&format!(
            "<path class=\"grid\" d=\"M{at:.1} {BOTTOM}v4\"/>\
             <text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            BOTTOM + 18.0,
            short(mark),
        ));
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    let low = HEIGHT - 6.0;
    axes + &format!("<text class=\"x\" x=\"{middle}\" y=\"{low}\">seconds</text>")
}

/// What a line does, in words.
pub(super) fn told(line: &Line<'_>) -> String {
    let most = line.points.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1));
    let (at, value) = most.unwrap_or_default();
    format!("{}: at most {} at {}", line.name, short(value.round()), time(at))
}
