//! The key of another region's gateways: one for all Models, whoever wrote them, and therefore sent to nobody
//! but the origin that is kept beside it.

use pilotage_plan::EndpointSpec;
use pilotage_shell::secret::Secret;

/// The key of a region, for its own origin alone.
pub(super) fn region_key(
    spec: &EndpointSpec,
    kept: &Secret,
    entry: &str,
) -> Result<Secret, String> {
    let (name, secret) = (&spec.name, pilotage_watch::KEYS);
    let mut words = kept.expose().split_ascii_whitespace();
    let (Some(Some(own)), Some(key), None) = (words.next().map(origin), words.next(), words.next())
    else {
        return Err(format!(
            "{name}: the entry `{entry}` of the Secret {secret} does not say whose key it has; write \
             the region's origin before it: `https://HOST[:PORT] KEY`"
        ));
    };
    if origin(&spec.url).as_ref() == Some(&own) {
        return Ok(Secret::new(key.to_owned()));
    }
    let (scheme, host, port) = own;
    Err(format!(
        "{name}: the entry `{entry}` of the Secret {secret} is the key of {scheme}://{host}:{port}, and is \
         not sent to another origin"
    ))
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: http::Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = uri.host()?.trim_end_matches('.').to_ascii_lowercase();
    Some((scheme, host, uri.port_u16().unwrap_or(usual))).filter(|(_, host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let check = |one: &str, other: &str, same: bool| {
            assert_eq!(
                origin(one) == origin(other) && origin(one).is_some(),
                same,
                "{one} {other}"
            );
        };
        check("https://Oslo.example.com/v1", "https://oslo.example.com.:443", true);
        check("http://oslo:80", "http://oslo", true);
        check("http://oslo:443", "https://oslo", false);
        check("https://oslo:8443", "https://oslo", false);
        check("https://oslo.example.com", "https://oslo.example.com@mine.example.com", false);
        check("https://[fd00::1]:443", "https://[FD00::1]", true);
        check("oslo", "oslo", false);
        check("ftp://oslo", "ftp://oslo", false);
    }
}
