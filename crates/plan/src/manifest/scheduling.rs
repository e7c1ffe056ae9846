//! Finds what no schema can say about `Route.spec.scheduling`: rights of bands that contradict each
//! other, and costs that leave no order.

use super::link::error;
use super::{ManifestError, Problem};
use crate::api::{BandName, BandRights, Resource, Route, Scheduling};

/// The whole capacity in percent.
const WHOLE_PERCENT: u64 = 100;

/// Adds everything about the routes' scheduling that does not fit together.
pub(super) fn check(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    for resource in resources {
        let Resource::Route(route) = resource else { continue };
        if let Some(scheduling) = &route.spec.scheduling {
            costs(route, scheduling, errors);
            bands(route, &scheduling.bands, errors);
        }
    }
}

fn report(route: &Route, field: &str, text: String, errors: &mut Vec<ManifestError>) {
    let field = format!("spec.scheduling.{field}");
    errors.push(error(&route.origin, &field, Problem::Value(text)));
}

fn costs(route: &Route, scheduling: &Scheduling, errors: &mut Vec<ManifestError>) {
    let Scheduling { cost, kv_token_seconds, .. } = scheduling;
    let Some(cost) = cost else { return };
    if *kv_token_seconds {
        let text = "a request costs its tokens or the room it takes; remove `cost` or this";
        report(route, "kvTokenSeconds", text.to_owned(), errors);
    }
    if cost.input == 0 && cost.output == 0 {
        let text = "where tokens cost nothing nobody is ahead; give `input` or `output` a price";
        report(route, "cost", text.to_owned(), errors);
    }
}

fn bands(route: &Route, bands: &[BandRights], errors: &mut Vec<ManifestError>) {
    for (index, rights) in bands.iter().enumerate() {
        if bands[..index].iter().any(|earlier| earlier.band == rights.band) {
            let text = "this band is listed already; remove one of the two".to_owned();
            report(route, &format!("bands[{index}].band"), text, errors);
        }
        one_band(route, index, rights, errors);
    }
    let floors: u64 = bands.iter().map(|rights| u64::from(rights.floor_percent)).sum();
    if floors > WHOLE_PERCENT {
        let text = format!("the floors add up to {floors} percent; lower them to 100 in sum");
        report(route, "bands", text, errors);
    }
}

fn one_band(route: &Route, index: usize, rights: &BandRights, errors: &mut Vec<ManifestError>) {
    let BandRights { band, floor_percent: floor, cap_percent: cap, age_seconds, ageing } = *rights;
    if floor > cap {
        let text = format!("the floor is above the cap of {cap} percent; lower it, or raise that");
        report(route, &format!("bands[{index}].floorPercent"), text, errors);
    }
    let field = format!("bands[{index}].ageSeconds");
    if age_seconds.is_some() && !ageing {
        let text = "the band gets no turns for its age; remove this or `ageing: false`".to_owned();
        report(route, &field, text, errors);
    } else if age_seconds.is_some() && band == BandName::Realtime {
        let text = "the most urgent band goes first whatever its age; remove this".to_owned();
        report(route, &field, text, errors);
    }
}
