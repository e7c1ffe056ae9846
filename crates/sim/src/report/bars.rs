//! Times to the first token by tenant: a bar to the middle, a thin one to the worst hundredth.

use super::scale::Scale;
use super::text::{escape, short, time};
use super::{Latency, Tenant};

const WIDTH: f64 = 480.0;

/// Where names end and bars begin, and where these end.
const LEFT: f64 = 124.0;
const RIGHT: f64 = WIDTH - 16.0;

/// Height of one tenant's row, and of what is below all.
const ROW: f64 = 26.0;
const FOOT: f64 = 44.0;
const TOP: f64 = 8.0;

/// Characters of a name that fit.
const NAME_MAX: usize = 15;

/// Tenants that are drawn at most; the table has all.
pub(super) const TENANTS_MAX: usize = 40;

/// The drawing of every tenant that has times.
pub(super) fn svg(tenants: &[Tenant]) -> String {
    let timed = tenants.iter().filter_map(|one| Some((one, one.time_to_first_token?)));
    let timed: Vec<(&Tenant, Latency)> = timed.take(TENANTS_MAX).collect();
    let most = timed.iter().map(|(_, times)| times.p99.get().max(times.mean.get()));
    let scale = Scale::new(most.fold(0.0, f64::max), 4.0, (LEFT, RIGHT));
    let bottom = TOP + ROW * timed.len() as f64;
    let height = bottom + FOOT;
    let told = timed
        .iter()
        .map(|(tenant, times)| format!("{}: half within {}. ", tenant.name, time(times.p50.get())));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"ttft-title ttft-desc\">\
         <title id=\"ttft-title\">Time to first token by tenant</title>\
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
    for (number, (tenant, times)) in timed.iter().enumerate() {
        svg.push_str(&row(tenant, *times, scale, TOP + ROW * number as f64));
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    svg.push_str(&format!(
        "<text class=\"x\" x=\"{middle}\" y=\"{:.1}\">seconds</text></svg>",
        height - 6.0,
    ));
    svg
}

fn row(tenant: &Tenant, times: Latency, scale: Scale, top: f64) -> String {
    let [p50, p99, mean] = [times.p50, times.p99, times.mean].map(|time| scale.place(time.get()));
    let middle = top + ROW / 2.0;
    let name = escape(&cut(&tenant.name));
    format!(
        "<g><title>{}: mean {}, p50 {}, p99 {}</title>\
         <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>\
         <path class=\"whisker\" d=\"M{LEFT} {middle:.1}H{p99:.1}m0 -5v10\"/>\
         <rect class=\"bar\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\"/>\
         <path class=\"mean\" d=\"M{mean:.1} {:.1}l5 5l-5 5l-5 -5z\"/></g>",
        escape(&tenant.name),
        time(times.mean.get()),
        time(times.p50.get()),
        time(times.p99.get()),
        LEFT - 8.0,
        middle + 4.5,
        middle - 6.0,
        (p50 - LEFT).max(1.0),
        middle - 5.0,
    )
}

fn cut(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_MAX - 1).chain(['…']).collect()
}
