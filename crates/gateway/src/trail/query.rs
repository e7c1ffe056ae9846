//! What the admin API may be asked about records: filters, and how many.

use pilotage_core::Span;
use pilotage_lens::{Record, Termination};
use pilotage_wire::openai::error::ApiError;
use serde::Deserialize;

use super::Seen;

/// Most records of one page.
pub(crate) const PAGE_MAX: usize = 1000;

/// The query of a list of records.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RecordsQuery {
    limit: Option<usize>,
    pub(crate) before: Option<u64>,
    tenant: Option<String>,
    model: Option<String>,
    replica: Option<String>,
    band: Option<String>,
    termination: Option<String>,
    min_ms: Option<u64>,
    id: Option<String>,
}

/// What a record has to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    tenant: Option<String>,
    model: Option<String>,
    replica: Option<String>,
    band: Option<String>,
    termination: Option<Termination>,
    least: Span,
    id: Option<String>,
}

impl RecordsQuery {
    /// How many are asked for at most.
    ///
    /// # Errors
    /// It is none, or more than a page has.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        match self.limit {
            None => Ok(100),
            Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
            Some(_) => {
                let message = format!("`limit` is from 1 to {PAGE_MAX}; page on with `before`");
                Err(ApiError::invalid_request(message).with_param("limit"))
            }
        }
    }

    /// What is asked for.
    ///
    /// # Errors
    /// There is no such way to end.
    pub(crate) fn filter(&self) -> Result<Filter, ApiError> {
        let termination = self.termination.as_deref().map(termination).transpose()?;
        Ok(Filter {
            tenant: self.tenant.clone(),
            model: self.model.clone(),
            replica: self.replica.clone(),
            band: self.band.clone(),
            termination,
            least: Span::from_millis(self.min_ms.unwrap_or(0)),
            id: self.id.clone(),
        })
    }
}

fn termination(name: &str) -> Result<Termination, ApiError> {
    Termination::ALL.into_iter().find(|one| one.name() == name).ok_or_else(|| {
        let all: Vec<&str> = Termination::ALL.iter().map(|one| one.name()).collect();
        let message = format!("requests do not end as `{name}`; it is one of {}", all.join(", "));
        ApiError::invalid_request(message).with_param("termination")
    })
}

/// Whether a tenant is meant: by its name, or by that of one that it belongs to.
fn is_of(path: &str, wanted: &str) -> bool {
    path.split('/').any(|name| name == wanted) || path == wanted
}

impl Filter {
    /// Whether a record is one of those.
    pub(crate) fn fits(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, name: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| name == Some(wanted))
        };
        let path = record.tenant_path.as_deref().unwrap_or_default();
        self.tenant.as_deref().is_none_or(|wanted| is_of(path, wanted))
            && is(&self.model, record.lane.as_deref())
            && is(&self.replica, record.replica.as_deref())
            && is(&self.band, Some(record.band.name()))
            && self.termination.is_none_or(|wanted| record.termination == wanted)
            && record.total >= self.least
            && is(&self.id, Some(&record.request_id))
    }

    /// Whether a request that is under way is one of those, as far as that is known by now.
    pub(crate) fn fits_live(&self, seen: &Seen) -> bool {
        let path = seen.tenant.as_ref().map_or("", |(_, path)| path.as_str());
        let replica = seen.why.as_ref().map(|why| why.replica().name.as_str());
        let is = |wanted: &Option<String>, name: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| name == Some(wanted))
        };
        self.tenant.as_deref().is_none_or(|wanted| is_of(path, wanted))
            && is(&self.model, seen.lane.as_deref())
            && is(&self.replica, replica)
            && is(&self.band, Some(seen.band.name()))
            && is(&self.id, Some(&seen.request_id))
    }
}
