//! Times to the first token, by tenant or by way of placing: a bar to the middle, a thin one to the
//! worst hundredth.

use pilotage_lens::page::{Scale, escape};

use super::text::{short, time};
use super::{Latency, Tenant};
use crate::compare::Row;

const WIDTH: f64 = 480.0;

/// Where names end and bars begin, and where these end.
const LEFT: f64 = 124.0;
const LEFT_LONG: f64 = 190.0;
const RIGHT: f64 = WIDTH - 16.0;

/// Height of one tenant's row, and of what is below all.
const ROW: f64 = 26.0;
const FOOT: f64 = 44.0;
const TOP: f64 = 8.0;

/// Characters of a name that fit.
const NAME_MAX: usize = 15;
const NAME_LONG_MAX: usize = 24;

/// Of ways of placing, times beyond so many times the shortest are cut.
const CUT: f64 = 8.0;

/// Tenants that are drawn at most; the table has all.
pub(super) const TENANTS_MAX: usize = 40;

/// The drawing of every tenant that has times.
pub(super) fn svg(tenants: &[Tenant]) -> String {
    let timed =
        tenants.iter().filter_map(|one| Some((one.name.as_str(), one.time_to_first_token?)));
    let timed: Vec<(&str, Latency)> = timed.take(TENANTS_MAX).collect();
    let most = timed.iter().map(|(_, times)| times.p99.get().max(times.mean.get()));
    let scale = Scale::new(most.fold(0.0, f64::max), 4.0, (LEFT, RIGHT));
    draw("Time to first token by tenant", &timed, scale, (LEFT, NAME_MAX))
}

/// The drawing of every way of placing.
pub(super) fn ways(rows: &[Row]) -> String {
    let latency = |row: &Row| {
        let times = row.first_token;
        Latency { mean: times.mean, p50: times.p50, p99: times.p99 }
    };
    let timed: Vec<(&str, Latency)> = rows.iter().map(|row| (row.policy, latency(row))).collect();
    let worst = timed.iter().map(|(_, times)| times.p99.get());
    let least = worst.clone().filter(|time| *time > 0.0).fold(f64::MAX, f64::min);
    let most = worst.fold(0.0, f64::max).min(CUT * least);
    let scale = Scale::new(most, 4.0, (LEFT_LONG, RIGHT));
    draw("Time to first token by policy", &timed, scale, (LEFT_LONG, NAME_LONG_MAX))
}

fn draw(
    title: &str,
    timed: &[(&str, Latency)],
    scale: Scale,
    (left, name_max): (f64, usize),
) -> String {
    let bottom = TOP + ROW * timed.len() as f64;
    let height = bottom + FOOT;
    let told = timed
        .iter()
        .map(|(name, times)| format!("{name}: half within {}. ", time(times.p50.get())));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"ttft-title ttft-desc\">\
         <title id=\"ttft-title\">{title}</title>\
         <desc id=\"ttft-desc\">{}</desc>",
        escape(&told.collect::<String>()),
    );
    for mark in scale.marks() {
        let at = scale.place(mark);
        svg.push_str(&format!(
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>\
             <text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 17.0,
            short(mark),
        ));
    }
    for (number, (name, times)) in timed.iter().enumerate() {
        let label = (*name, cut(name, name_max), left);
        svg.push_str(&row(label, *times, scale, TOP + ROW * number as f64));
    }
    let middle = f64::midpoint(left, RIGHT);
    svg.push_str(&format!(
        "<text class=\"x\" x=\"{middle}\" y=\"{:.1}\">seconds</text></svg>",
        height - 6.0,
    ));
    svg
}

fn row((name, short, left): (&str, String, f64), times: Latency, scale: Scale, top: f64) -> String {
    let [p50, p99, mean] = [times.p50, times.p99, times.mean].map(|time| scale.place(time.get()));
    let middle = top + ROW / 2.0;
    let (name, short) = (escape(name), escape(&short));
    format!(
        "<g><title>{name}: mean {}, p50 {}, p99 {}</title>\
         <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{short}</text>\
         <path class=\"whisker\" d=\"M{left} {middle:.1}H{p99:.1}m0 -5v10\"/>\
         <rect class=\"bar\" x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\"/>\
         <path class=\"mean\" d=\"M{mean:.1} {:.1}l5 5l-5 5l-5 -5z\"/></g>",
        time(times.mean.get()),
        time(times.p50.get()),
        time(times.p99.get()),
        left - 8.0,
        middle + 4.5,
        middle - 6.0,
        (p50 - left).max(1.0),
        middle - 5.0,
    )
}

fn cut(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}
