//! What a request may hold besides text. Engines fetch what a request names by address, from where
//! they stand inside the network: so addresses are refused unless their host is on the operator's
//! list, and whatever two readers of addresses could understand differently is refused always.

use pilotage_wire::media::Media;
use pilotage_wire::openai::error::ApiError;

use crate::config::MediaLimits;

/// Names that lead to where a network keeps its own, whatever the operator lists.
const INSIDE: [&str; 6] =
    [".arpa", ".internal", ".intranet", ".local", ".localdomain", ".localhost"];

/// Refuses what is too much, too large, or to be fetched from a host that is not listed.
///
/// # Errors
/// Status 400; the message does not repeat the address.
pub(super) fn check(media: &Media, limits: &MediaLimits, hosts: &[String]) -> Result<(), ApiError> {
    let parts = media.parts();
    if parts > limits.parts_max {
        let most = limits.parts_max;
        return Err(ApiError::invalid_request(format!(
            "the request holds {parts} images, pieces of audio, videos and files; at most {most} \
             are taken"
        ))
        .with_code("too_many_media_parts"));
    }
    if media.largest_bytes > limits.part_bytes_max {
        let most = limits.part_bytes_max;
        return Err(ApiError::invalid_request(format!(
            "an image, piece of audio, video or file is larger than {most} bytes as it is encoded; \
             send a smaller one"
        ))
        .with_code("media_too_large"));
    }
    if media.urls.iter().all(|url| is_allowed(url, hosts)) {
        return Ok(());
    }
    let mut message = "an address of an image, piece of audio, video or file is not allowed here; \
                       send its content as a `data:` URL"
        .to_owned();
    if !hosts.is_empty() {
        message += &format!(", or name it by `https://` at one of: {}", hosts.join(", "));
    }
    Err(ApiError::invalid_request(message)
        .with_param("messages")
        .with_code("media_url_not_allowed"))
}

/// Refuses a list of hosts with an entry that never allows anything.
///
/// # Errors
/// Says which entry, and why.
pub(crate) fn check_hosts(hosts: &[String]) -> Result<(), String> {
    let wrong = hosts.iter().find(|entry| {
        let (name, port) = entry.split_once(':').unwrap_or((entry, "1"));
        !is_public_name(name) || !is_port(port)
    });
    wrong.map_or(Ok(()), |entry| {
        Err(format!(
            "`{entry}` cannot be a host to fetch media from: it takes the full name of a public host, \
             such as `images.example.com` or `images.example.com:8443`, no address and no path"
        ))
    })
}

/// Whether all who read this address agree that it leads to a host on the list.
fn is_allowed(url: &str, hosts: &[String]) -> bool {
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let Some((scheme, rest)) = url.split_once("://").filter(|_| plain) else { return false };
    let own_port = match scheme {
        "https" => "443",
        "http" => "80",
        _ => return false,
    };
    // The authority ends at the first slash for every reader; before a bare `?` or `#` not for all.
    let authority = rest.split('/').next().unwrap_or_default();
    let (name, port) = authority.split_once(':').unwrap_or((authority, own_port));
    if !is_public_name(name) || !is_port(port) {
        return false;
    }
    hosts.iter().any(|entry| {
        let (listed, listed_port) = entry.split_once(':').unwrap_or((entry, own_port));
        listed.eq_ignore_ascii_case(name) && listed_port == port
    })
}

fn is_port(port: &str) -> bool {
    !port.starts_with('0')
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok()
}

/// Whether it is the full name of a host, and can be read as nothing else: no address in any form (a
/// last label that is a number is one to some readers), no name inside a network.
fn is_public_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = lower.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    lower.len() <= 253
        && lower.contains('.')
        && lower.split('.').all(label)
        && !is_number
        && !INSIDE.iter().any(|inside| lower.ends_with(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [&str; 2] = ["img.example.com", "cdn.example.org:8443"];

    fn allowed(url: &str) -> bool {
        is_allowed(url, &HOSTS.map(str::to_owned))
    }

    #[test]
    fn listed_hosts_are_allowed() {
        for url in [
            "https://img.example.com",
            "https://img.example.com/a.png?b=c#d",
            "http://img.example.com/@x",
            "https://IMG.example.com:443/",
            "http://img.example.com:80/",
            "https://cdn.example.org:8443/v",
        ] {
            assert!(allowed(url), "{url}");
        }
    }

    /// What one reader takes for a listed host and another for something else, and addresses in
    /// every disguise.
    #[test]
    fn whatever_can_be_read_in_two_ways_is_refused() {
        for url in [
            "",
            "img.example.com/a",
            "//img.example.com/a",
            "ftp://img.example.com/a",
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "gopher://img.example.com",
            "HTTPS://img.example.com/",
            " https://img.example.com/",
            "https://img.example.com/ ",
            "https://img.example.com/\n",
            "ht\ttps://img.example.com/",
            "https:/img.example.com/",
            "https:img.example.com/",
            "https:///img.example.com/",
            "https://other.example.com/",
            "https://img.example.com.evil.net/",
            "https://evil.net/img.example.com",
            "https://evil.net#img.example.com/",
            "https://img.example.com#@evil.net/",
            "https://img.example.com?@evil.net/",
            "https://img.example.com@evil.net/",
            "https://evil.net@img.example.com/",
            "https://user:pw@img.example.com/",
            "https://img.example.com:80@evil.net/",
            "https://evil.net\\@img.example.com/",
            "https://img.example.com\\@evil.net/",
            "https://img.example.com\\.evil.net/",
            "https://img.example.com%2eevil.net/",
            "https://img%2eexample.com/",
            "https://img.example.com./",
            "https://img.example.com:/",
            "https://img.example.com:8443/",
            "https://img.example.com:0443/",
            "https://img.example.com:65979/",
            "https://cdn.example.org/",
            "https://i\u{ff4d}g.example.com/",
            "https://img\u{3002}example.com/",
            "https://img.example.com\u{0}/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1%25eth0]/",
            "http://localhost/",
            "http://metadata.google.internal/",
            "data:image/png;base64,AA",
        ] {
            assert!(!allowed(url), "{url}");
        }
    }

    #[test]
    fn addresses_and_inner_names_are_never_allowed_even_when_listed() {
        let inside = [
            "127.0.0.1",
            "10.0.0.5",
            "169.254.169.254",
            "2130706433",
            "1.2.3.0x4",
            "[::1]",
            "localhost",
            "a.localhost",
            "metadata.google.internal",
            "kubernetes.default.svc.cluster.local",
            "printer.local",
            "router.home.arpa",
        ];
        for host in inside {
            let hosts = [host.to_owned()];
            assert!(!is_allowed(&format!("http://{host}/"), &hosts), "{host}");
            assert!(check_hosts(&hosts).is_err(), "{host}");
        }
        check_hosts(&HOSTS.map(str::to_owned)).unwrap();
        for host in ["*", "a.example.com/x", "https://a.example.com", "a.example.com:x", ""] {
            assert!(check_hosts(&[host.to_owned()]).is_err(), "{host}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let limits = MediaLimits { parts_max: 2, part_bytes_max: 10 };
        let code = |media: Media| {
            let result = check(&media, &limits, &[]);
            result.err().and_then(|error| error.code).map(std::borrow::Cow::into_owned)
        };
        let none = Media::default();
        assert_eq!(code(none.clone()), None);
        assert_eq!(code(Media { images: 2, largest_bytes: 10, ..none.clone() }), None);
        let many = Media { images: 2, files: 1, ..none.clone() };
        assert_eq!(code(many).as_deref(), Some("too_many_media_parts"));
        let large = Media { images: 1, largest_bytes: 11, ..none.clone() };
        assert_eq!(code(large).as_deref(), Some("media_too_large"));
        let far = Media { images: 1, urls: vec!["https://img.example.com/".to_owned()], ..none };
        assert_eq!(code(far).as_deref(), Some("media_url_not_allowed"));
    }
}
