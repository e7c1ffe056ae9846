//! How requests get to a replica: what is the same for each of them, made once.

use std::borrow::Cow;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use pilotage_core::traffic;
use pilotage_shell::client::Client;
use pilotage_wire::dialect::{Dialect, Own};

use super::Replica;
use super::name::Name;

/// The parts of a replica's address, the header with its key, and what speaks with it.
#[derive(Debug)]
pub(crate) struct Door {
    at: Option<(Scheme, Authority, HeaderValue)>,
    /// Host and port, for who reads.
    place: Option<traffic::Name>,
    /// What all paths begin with there.
    prefix: String,
    key: Option<HeaderValue>,
    /// Where it is trusted by other certificates than the system's.
    client: Option<Client>,
    /// The API of its own that requests are told in.
    own: Option<Own>,
    /// Which server it is.
    dialect: Dialect,
    /// What it calls its model, where it is to be asked.
    name: Option<Name>,
    /// Whether it is a gateway of another region.
    is_gateway: bool,
}

impl Door {
    /// Of an address that is none, all requests fail to connect.
    pub(super) fn of(replica: &Replica) -> Self {
        let url = replica.url.parse::<Uri>().unwrap_or_default().into_parts();
        let at = url.scheme.zip(url.authority).and_then(|(scheme, authority)| {
            // User and password are no part of the host.
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            let host = HeaderValue::from_str(host).ok()?;
            Some((scheme, authority, host))
        });
        let path = url.path_and_query.as_ref().map_or("", PathAndQuery::path);
        let key = replica.key.as_ref().and_then(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let place = at.as_ref().map(|at| traffic::Name::from(address(at)));
        let (prefix, client) = (path.trim_end_matches('/').to_owned(), replica.client.clone());
        Self {
            at,
            place,
            prefix,
            key,
            client,
            own: replica.own,
            dialect: replica.dialect,
            name: replica.finds_name.then(|| Name::at(replica)),
            is_gateway: replica.is_gateway,
        }
    }

    /// Whether it is a gateway of another region, which knows models by their public names.
    pub(crate) const fn is_gateway(&self) -> bool {
        self.is_gateway
    }

    /// Whether a proxy may take requests there, which connects in its own way: not where the connection is
    /// what keeps a key and a request from others.
    pub(crate) fn is_plain(&self) -> bool {
        let is_tls = self.at.as_ref().is_some_and(|(scheme, ..)| *scheme == Scheme::HTTPS);
        !self.is_gateway && !is_tls
    }

    /// What speaks with it: its own client, or everybody's.
    pub(crate) fn client<'a>(&'a self, everybodys: &'a Client) -> &'a Client {
        self.client.as_ref().unwrap_or(everybodys)
    }

    /// The API of its own that requests are told in, where it has not OpenAI's.
    pub(crate) const fn own(&self) -> Option<Own> {
        self.own
    }

    /// What it calls its model, where it is to be asked.
    pub(crate) const fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Which server it is.
    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The address of that path.
    pub(crate) fn uri(&self, path: Cow<'static, str>) -> Uri {
        let path = match (self.prefix.as_str(), path) {
            ("", Cow::Borrowed(path)) => Some(PathAndQuery::from_static(path)),
            (prefix, path) => PathAndQuery::try_from(format!("{prefix}{path}")).ok(),
        };
        let mut parts = http::uri::Parts::default();
        if let Some((scheme, authority, _)) = &self.at {
            (parts.scheme, parts.authority) = (Some(scheme.clone()), Some(authority.clone()));
        }
        parts.path_and_query = path;
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Host and port, which are all that a proxy is told.
    pub(crate) fn address(&self) -> Option<String> {
        self.at.as_ref().map(address)
    }

    /// The same, at hand.
    pub(crate) const fn place(&self) -> Option<&traffic::Name> {
        self.place.as_ref()
    }

    /// The header that names the host.
    pub(crate) fn host(&self) -> Option<&HeaderValue> {
        self.at.as_ref().map(|(_, _, host)| host)
    }

    /// The header with the replica's key.
    pub(crate) const fn key(&self) -> Option<&HeaderValue> {
        self.key.as_ref()
    }
}

fn address((scheme, authority, _): &(Scheme, Authority, HeaderValue)) -> String {
    let usual = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(usual))
}

#[cfg(test)]
mod tests {
    use pilotage_core::Capacity;

    use super::*;

    #[test]
    fn paths_come_after_what_the_address_begins_with() {
        let check = |url: &str, expect: &str, host: Option<&str>| {
            let door = Door::of(&Replica::at("r", url, Capacity::of_requests(1)));
            assert_eq!(door.uri("/v1/models".into()).to_string(), expect, "{url}");
            assert_eq!(door.host().map(|host| host.to_str().unwrap()), host, "{url}");
        };
        check("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/models", Some("127.0.0.1:8000"));
        check("https://a.example/x/", "https://a.example/x/v1/models", Some("a.example"));
        check("no address", "/v1/models", None);
    }
}
