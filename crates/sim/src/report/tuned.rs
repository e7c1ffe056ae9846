//! The page of a search for shapes: what each came to, which no other beats, and which one to take.

use pilotage_lens::page::{Scale, escape};

use super::page::document;
use super::{Rounded, tables};

use super::text::{decimal, figure, percent, short, time, whole};
use crate::tune::{Origin, Outcome, Tried};

/// The drawing's size, and where its axes cross and end.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 42.0;

/// Times beyond so many times the longest of the best are cut.
const CUT: f64 = 3.0;

/// So many points have room for their names beside them.
const NAMED_MAX: usize = 8;

/// A search for shapes.
#[derive(Clone, Copy, Debug)]
pub struct Tuned<'a> {
    /// What was searched for.
    pub title: &'a str,
    /// With which requests, on what.
    pub about: &'a str,
    /// The command that gives it again.
    pub replay: &'a str,
    /// All that were tried.
    pub tried: &'a [Tried],
    /// The one to take, and why.
    pub picked: Option<(&'a Tried, &'a str)>,
    /// How to run that one, line by line.
    pub launch: &'a [String],
    /// What else a reader should know.
    pub notes: &'a [String],
}

/// The search as one HTML page that needs nothing else.
pub fn tuned(search: &Tuned<'_>) -> String {
    let figure = |id: &str, title: &str, of: &dyn Fn(&Outcome) -> Option<f64>| {
        format!(
            "<figure><figcaption>{title}</figcaption>{}</figure>",
            scatter(id, title, search.tried, of)
        )
    };
    let is_measured = search.tried.iter().any(|one| one.origin == Origin::Measured);
    let hollow = if search.tried.iter().any(|one| one.predicted.is_some()) {
        " Hollow: what the simulator says of the one below or above it."
    } else {
        ""
    };
    let key = format!(
        "<p class=\"note\">Coloured: no other shape is as good in everything and better in something. Grey: another \
         is.{hollow} What loses requests, or is much slower than the best, is only in the table.</p>"
    );
    let body = [
        format!(
            "<header><h1>{}</h1><p>{}</p><p class=\"replay\"><span>Again:</span> <code>{}</code></p></header>",
            escape(search.title),
            escape(search.about),
            escape(search.replay)
        ),
        "<main>".to_owned(),
        picked(search),
        format!(
            "<div class=\"plots\">{}{}</div>{key}",
            figure("ttft", "Time to first token, p99, against what it costs", &|one| Some(
                one.ttft_p99.get()
            )),
            figure("tpot", "Time for each further token, p99, against what it costs", &|one| one
                .tpot_p99
                .map(Rounded::get))
        ),
        table(search.tried, is_measured),
        list("Notes", search.notes),
        "</main>".to_owned(),
    ];
    document(search.title, &body.join("\n"))
}

/// The one to take, and how to run it.
fn picked(search: &Tuned<'_>) -> String {
    let Some((one, reason)) = search.picked else { return String::new() };
    let launch: Vec<String> = search.launch.iter().map(|line| escape(line)).collect();
    let launch = match launch.is_empty() {
        true => String::new(),
        false => format!("<pre>{}</pre>", launch.join("\n")),
    };
    format!(
        "<section><h2>Take {}</h2><p>{}.</p>{launch}</section>",
        escape(&one.name),
        escape(reason)
    )
}

fn list(title: &str, notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let items = notes.iter().map(|note| format!("<li>{}</li>", escape(note)));
    format!("<section><h2>{title}</h2><ul>{}</ul></section>", items.collect::<String>())
}

fn scatter(id: &str, title: &str, tried: &[Tried], of: &dyn Fn(&Outcome) -> Option<f64>) -> String {
    let most_best = tried.iter().filter(|one| one.best).filter_map(|one| of(&one.outcome));
    let most_best = most_best.fold(0.0, f64::max);
    let is_low = |one: &Tried| of(&one.outcome).is_some_and(|value| value <= most_best * CUT);
    let is_drawn = |one: &&Tried| one.is_whole() && is_low(one);
    // The best come last, and lie on top.
    let mut drawn: Vec<&Tried> = tried.iter().filter(is_drawn).collect();
    drawn.sort_by_key(|one| one.best);
    let x =
        Scale::new(drawn.iter().map(|one| one.weight()).fold(0.0, f64::max), 5.0, (LEFT, RIGHT));
    let predicted = drawn.iter().filter_map(|one| one.predicted.as_ref()).filter_map(of);
    let highest =
        drawn.iter().filter_map(|one| of(&one.outcome)).chain(predicted).fold(0.0, f64::max);
    let y = Scale::new(highest.min(most_best * CUT), 5.0, (BOTTOM, TOP));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{} shapes; the table has their numbers.</desc>",
        drawn.len()
    );
    svg.push_str(&axes(x, y));
    let named = drawn.len() <= NAMED_MAX;
    for one in drawn {
        svg.push_str(&point(one, (x, y), of, named));
    }
    let is_cost = tried.iter().any(|one| one.cost.is_some());
    let unit = if is_cost { "cost an hour" } else { "accelerators" };
    svg.push_str(&format!(
        "<text class=\"x\" x=\"{}\" y=\"{:.1}\">{unit}; seconds upwards</text></svg>",
        f64::midpoint(LEFT, RIGHT),
        HEIGHT - 6.0
    ));
    svg
}

fn axes(x: Scale, y: Scale) -> String {
    let mut axes = String::new();
    for mark in y.marks() {
        let at = y.place(mark);
        axes.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            at + 4.5,
            short(mark)
        ));
    }
    for mark in x.marks() {
        axes.push_str(&format!(
            "<text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x.place(mark),
            BOTTOM + 17.0,
            short(mark)
        ));
    }
    axes
}

/// A shape's point, with what was predicted of it.
fn point(
    one: &Tried,
    (x, y): (Scale, Scale),
    of: &dyn Fn(&Outcome) -> Option<f64>,
    named: bool,
) -> String {
    let Some(value) = of(&one.outcome) else { return String::new() };
    let at = x.place(one.weight());
    let class = if one.best { "way best" } else { "way" };
    let name = escape(&one.name);
    let mut svg = String::new();
    if let Some(predicted) = one.predicted.as_ref().and_then(of) {
        let high = y.place(predicted).clamp(TOP, BOTTOM);
        svg.push_str(&format!(
            "<path class=\"grid\" d=\"M{at:.1} {:.1}V{high:.1}\"/><circle class=\"way hollow\" cx=\"{at:.1}\" \
             cy=\"{high:.1}\" r=\"5\"><title>{name}, predicted: {}</title></circle>",
            y.place(value),
            time(predicted)
        ));
    }
    let high = y.place(value);
    svg.push_str(&format!(
        "<circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{high:.1}\" r=\"5\"><title>{name}: {}</title></circle>",
        time(value)
    ));
    if named {
        // Beyond the middle there is more room to the left.
        let (anchor, beside) =
            if at > f64::midpoint(LEFT, RIGHT) { ("y", -9.0) } else { ("", 9.0) };
        let short: String =
            one.name.split(',').next().unwrap_or_default().chars().take(24).collect();
        svg.push_str(&format!(
            "<text class=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            at + beside,
            high - 6.0,
            escape(&short)
        ));
    }
    svg
}

fn table(tried: &[Tried], is_measured: bool) -> String {
    let mut head = vec![
        "Shape",
        "Best",
        "From",
        "Accelerators",
        "Cost an hour",
        "TTFT p99",
        "TPOT p99",
        "Good requests/s",
        "Good",
        "Lost",
    ];
    let is_predicted = tried.iter().any(|one| one.predicted.is_some());
    if is_predicted {
        head.extend(["TTFT predicted", "TPOT predicted"]);
    }
    if is_measured {
        head.push("Why not, and notes");
    }
    let rows = tried.iter().map(|one| {
        let mut cells = numbers(one).to_vec();
        if is_predicted {
            cells.extend(predictions(one));
        }
        if is_measured {
            let notes = one.failed.iter().chain(&one.notes).map(|note| escape(note));
            cells.push(notes.collect::<Vec<_>>().join("; "));
        }
        tables::row(&one.name, cells)
    });
    tables::table("What each shape came to", &head, &rows.collect::<String>())
}

fn numbers(one: &Tried) -> [String; 9] {
    let of = |text: String| if one.outcome.requests == 0 { "-".to_owned() } else { text };
    let Outcome { ttft_p99, tpot_p99, goodput, good, requests, lost } = one.outcome;
    // Times are those of answers.
    let timed = |text: String| if lost == requests { "-".to_owned() } else { text };
    [
        if one.best { "yes" } else { "" }.to_owned(),
        if one.origin == Origin::Measured { "measured" } else { "simulated" }.to_owned(),
        one.accelerators.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        one.cost.map_or_else(|| "-".to_owned(), |cost| figure(cost.get())),
        timed(time(ttft_p99.get())),
        timed(next(tpot_p99)),
        of(figure(goodput.get())),
        of(percent(good.get())),
        of(whole(lost)),
    ]
}

/// Predicted times, and by how much they are off.
fn predictions(one: &Tried) -> [String; 2] {
    let Some(predicted) = &one.predicted else { return ["-", "-"].map(str::to_owned) };
    let off = |text: String, part: Option<f64>| match part {
        Some(part) => format!("{text} ({}{})", if part < 0.0 { "" } else { "+" }, percent(part)),
        None => text,
    };
    let [first, next] = one.errors();
    [off(time(predicted.ttft_p99.get()), first), off(self::next(predicted.tpot_p99), next)]
}

/// A time for each further token, where it is known.
fn next(tpot: Option<Rounded>) -> String {
    tpot.map_or_else(|| "-".to_owned(), |tpot| fine(tpot.get()))
}

/// Short times, in milliseconds with a decimal.
fn fine(seconds: f64) -> String {
    format!("{} ms", decimal(seconds * 1e3, 1))
}
