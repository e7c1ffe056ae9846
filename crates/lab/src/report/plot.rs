//! Lines in a drawing that scales with the page, says in words what it shows, and has its numbers in
//! a table beside it.

use std::fmt::Write as _;

use pilotage_lens::page::{Scale, escape};

/// The drawing's size: small, so that what is written in it stays readable on a phone.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 270.0;

/// Where the axes cross and end.
const LEFT: f64 = 58.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 42.0;

/// Rows of the table beside a drawing at most.
const ROWS_MAX: usize = 40;

/// A drawing.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    /// Names it in the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// What the axes show, with units.
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) lines: Vec<Line<'a>>,
}

/// One line: its name and points.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

impl Plot<'_> {
    /// The figure: drawing, key and table. Nothing where there is nothing to draw.
    pub(super) fn figure(&self) -> String {
        if self.lines.iter().all(|line| line.points.is_empty()) {
            return String::new();
        }
        let (title, unit) = (escape(self.title), escape(self.y));
        format!(
            "<figure><figcaption>{title} ({unit})</figcaption>{}{}{}</figure>",
            self.svg(),
            self.key(),
            self.table(),
        )
    }

    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let x = Scale::new(most(&mut points().map(|point| point.0)), 5.0, (LEFT, RIGHT));
        let y = Scale::new(most(&mut points().map(|point| point.1)), 5.0, (BOTTOM, TOP));
        let said: Vec<String> = self.lines.iter().map(Line::said).collect();
        let (id, title) = (self.id, escape(self.title));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
             <title id=\"{id}-t\">{title}</title><desc id=\"{id}-d\">{}: {}</desc>",
            escape(self.y),
            escape(&said.join("; ")),
        );
        for mark in y.marks() {
            let at = y.place(mark);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>\
                 <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 6.0,
                at + 4.5,
                short(mark),
            );
        }
        for mark in x.marks() {
            let at = x.place(mark);
            let low = BOTTOM + 18.0;
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {BOTTOM}v4\"/>\
                 <text class=\"x\" x=\"{at:.1}\" y=\"{low:.1}\">{}</text>",
                short(mark),
            );
        }
        let (middle, low) = (f64::midpoint(LEFT, RIGHT), HEIGHT - 6.0);
        let name = escape(self.x);
        let _ = write!(svg, "<text class=\"x\" x=\"{middle}\" y=\"{low}\">{name}</text>");
        for (at, line) in self.lines.iter().enumerate() {
            svg.push_str(&line.path(at, x, y));
        }
        svg + "</svg>"
    }

    fn key(&self) -> String {
        let item = |(at, line): (usize, &Line<'_>)| {
            format!(
                "<li><svg viewBox=\"0 0 28 8\" aria-hidden=\"true\"><path class=\"line s{}\" \
                 d=\"M1 4H27\"/></svg>{}</li>",
                at % 4,
                escape(line.name),
            )
        };
        let drawn = self.lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty());
        let items: String = drawn.map(item).collect();
        format!("<ul class=\"key\">{items}</ul>")
    }

    /// The numbers. Lines share their places along the bottom, or have a table row each.
    fn table(&self) -> String {
        let longest = self.lines.iter().map(|line| line.points.len()).max().unwrap_or(0);
        let every = longest.div_ceil(ROWS_MAX).max(1);
        let mut head = vec![self.x.to_owned()];
        let shared = self.lines.iter().all(|line| {
            let places =
                |line: &Line<'_>| line.points.iter().map(|point| point.0).collect::<Vec<_>>();
            self.lines.first().is_some_and(|first| places(first) == places(line))
        });
        let mut rows = Vec::new();
        if shared {
            head.extend(self.lines.iter().map(|line| line.name.to_owned()));
            for at in (0..longest).step_by(every) {
                let place = self.lines.first().and_then(|line| line.points.get(at));
                let values = self.lines.iter().filter_map(|line| line.points.get(at));
                let numbers = place.map(|point| point.0).into_iter();
                rows.push(numbers.chain(values.map(|point| point.1)).map(short).collect());
            }
        } else {
            head.extend([self.y.to_owned(), "line".to_owned()]);
            for line in &self.lines {
                for (x, y) in line.points.iter().step_by(every) {
                    rows.push(vec![short(*x), short(*y), line.name.to_owned()]);
                }
            }
        }
        let table = table(self.title, &head, &rows);
        format!("<details><summary>The numbers</summary>{table}</details>")
    }
}

impl Line<'_> {
    fn said(&self) -> String {
        let most = self.points.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1));
        let (at, value) = most.unwrap_or_default();
        format!("{}, at most {} at {}", self.name, short(value), short(at))
    }

    fn path(&self, number: usize, x: Scale, y: Scale) -> String {
        let mut path = String::new();
        for (at, value) in &self.points {
            let step = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{step}{:.1} {:.1}", x.place(*at), y.place(*value));
        }
        let name = escape(self.name);
        format!("<path class=\"line s{}\" d=\"{path}\"><title>{name}</title></path>", number % 4)
    }
}

/// A table with a caption. The first cell of a row is its head.
pub(super) fn table(caption: &str, head: &[String], rows: &[Vec<String>]) -> String {
    let heads: String =
        head.iter().map(|cell| format!("<th scope=\"col\">{}</th>", escape(cell))).collect();
    let row = |cells: &Vec<String>| {
        let cells = cells.iter().enumerate().map(|(at, cell)| match at {
            0 => format!("<th scope=\"row\">{}</th>", escape(cell)),
            _ => format!("<td>{}</td>", escape(cell)),
        });
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let body: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table>\
         <caption>{0}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>",
        escape(caption),
    )
}

/// A number with about three digits that say something.
pub(super) fn short(number: f64) -> String {
    let size = number.abs();
    let digits = match size {
        _ if size >= 100.0 || size == 0.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ if size >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{number:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let check = |number: f64, expect: &str| assert_eq!(short(number), expect);
        check(0.0, "0");
        check(1234.56, "1235");
        check(12.34, "12.3");
        check(2.0, "2");
        check(0.25, "0.25");
        check(0.01234, "0.0123");
    }

    #[test]
    fn a_figure_says_what_it_shows() {
        let line = |name| Line { name, points: vec![(0.0, 1.0), (5.0, 30.0)] };
        let plot = Plot {
            id: "p",
            title: "A <b>",
            x: "s",
            y: "ms",
            lines: vec![line("one"), line("two")],
        };
        let figure = plot.figure();
        for part in [
            "A &lt;b&gt;",
            "one, at most 30 at 5",
            "role=\"img\"",
            "<caption>",
            "class=\"line s1\"",
        ] {
            assert!(figure.contains(part), "{part}");
        }
        let empty = Plot { lines: vec![Line { name: "one", points: vec![] }], ..plot };
        assert_eq!(empty.figure(), "");
    }
}
