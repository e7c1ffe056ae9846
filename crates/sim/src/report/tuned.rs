//! The page of a search for shapes: what each came to, and which no other beats.

use pilotage_lens::page::{Scale, escape};

use super::page::document;
use super::tables;
use super::text::{figure, percent, short, time, whole};
use crate::tune::Tried;

/// The drawing's size, and where its axes cross and end.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 42.0;

/// Times beyond so many times the longest of the best are cut.
const CUT: f64 = 3.0;

/// The search as one HTML page that needs nothing else. `price` is what an accelerator costs in an hour.
pub fn tuned(
    title: &str,
    about: &str,
    replay: &str,
    tried: &[Tried],
    price: Option<f64>,
) -> String {
    let first = |one: &Tried| one.ttft_p99.get();
    let next = |one: &Tried| one.tpot_p99.get();
    let figure = |id: &str, title: &str, of: &dyn Fn(&Tried) -> f64| {
        format!(
            "<figure><figcaption>{title}</figcaption>{}</figure>",
            scatter(id, title, tried, price, of)
        )
    };
    let key = "<p class=\"note\">Coloured: no other shape is as good in everything and better in something. Grey: \
               another is. What loses requests, or is much slower than the best, is only in the table.</p>";
    let body = [
        format!(
            "<header><h1>{}</h1><p>{}</p><p class=\"replay\"><span>Again:</span> <code>{}</code></p></header>",
            escape(title),
            escape(about),
            escape(replay)
        ),
        "<main>".to_owned(),
        format!(
            "<div class=\"plots\">{}{}</div>{key}",
            figure("ttft", "Time to first token, p99, against what it costs", &first),
            figure("tpot", "Time for each further token, p99, against what it costs", &next)
        ),
        table(tried, price),
        "</main>".to_owned(),
    ];
    document(title, &body.join("\n"))
}

fn cost(one: &Tried, price: Option<f64>) -> f64 {
    f64::from(one.accelerators) * price.unwrap_or(1.0)
}

fn scatter(
    id: &str,
    title: &str,
    tried: &[Tried],
    price: Option<f64>,
    of: &dyn Fn(&Tried) -> f64,
) -> String {
    let most_best = tried.iter().filter(|one| one.best).map(of).fold(0.0, f64::max);
    let is_drawn = |one: &&Tried| one.lost == 0 && of(one) <= most_best * CUT;
    // The best come last, and lie on top.
    let mut drawn: Vec<&Tried> = tried.iter().filter(is_drawn).collect();
    drawn.sort_by_key(|one| one.best);
    let x = Scale::new(
        drawn.iter().map(|one| cost(one, price)).fold(0.0, f64::max),
        5.0,
        (LEFT, RIGHT),
    );
    let y = Scale::new(drawn.iter().map(|one| of(one)).fold(0.0, f64::max), 5.0, (BOTTOM, TOP));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{} shapes; the table has their numbers.</desc>",
        drawn.len()
    );
    for mark in y.marks() {
        let at = y.place(mark);
        svg.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            at + 4.5,
            short(mark)
        ));
    }
    for mark in x.marks() {
        svg.push_str(&format!(
            "<text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x.place(mark),
            BOTTOM + 17.0,
            short(mark)
        ));
    }
    for one in drawn {
        let class = if one.best { "way best" } else { "way" };
        svg.push_str(&format!(
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\"><title>{}: {}</title></circle>",
            x.place(cost(one, price)),
            y.place(of(one)),
            escape(&one.name),
            time(of(one))
        ));
    }
    let unit = if price.is_some() { "cost an hour" } else { "accelerators" };
    svg.push_str(&format!(
        "<text class=\"x\" x=\"{}\" y=\"{:.1}\">{unit}; seconds upwards</text></svg>",
        f64::midpoint(LEFT, RIGHT),
        HEIGHT - 6.0
    ));
    svg
}

fn table(tried: &[Tried], price: Option<f64>) -> String {
    let head = [
        "Shape",
        "Best",
        "Accelerators",
        "Cost an hour",
        "TTFT p99",
        "TPOT p99",
        "Good requests/s",
        "Good",
        "Lost",
    ];
    let rows = tried.iter().map(|one| {
        let cells = [
            if one.best { "yes" } else { "" }.to_owned(),
            one.accelerators.to_string(),
            price.map_or_else(|| "-".to_owned(), |_| figure(cost(one, price))),
            time(one.ttft_p99.get()),
            time(one.tpot_p99.get()),
            figure(one.goodput.get()),
            percent(one.good.get()),
            whole(one.lost),
        ];
        tables::row(&one.name, cells)
    });
    tables::table("What each shape came to", &head, &rows.collect::<String>())
}
