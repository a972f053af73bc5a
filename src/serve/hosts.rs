//! The host names that the server accepts.

use std::net::IpAddr;

/// The names by which a browser may call the server. Other names are refused. They occur in DNS rebinding, where a page
/// of another site lets its own name resolve to this machine.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// Accepts the listening address, the loopback's names, and the names in `allowed`.
    pub fn new(address: IpAddr, allowed: &[String]) -> Self {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.push(address.to_string());
        names.extend(allowed.iter().map(|name| name.to_ascii_lowercase()));
        Self { names }
    }

    /// Whether the header `Host` has one of the names, with any port.
    pub(super) fn allow(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((address, port)) if is_port(port) => address,
                _ => return false,
            },
            None => match host.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                Some(_) => return false,
                None => host,
            },
        };
        self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Whether the text is empty, or a colon and digits.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_answered() {
        let hosts = Hosts::new("10.0.0.7".parse().unwrap(), &["Box.Lab".to_owned()]);
        for host in ["localhost", "localhost:8377", "127.0.0.1:1", "[::1]:8377", "[::1]", "10.0.0.7:80", "box.lab:8377"]
        {
            assert!(hosts.allow(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.8",
            "[::2]:1",
            "[::1",
            "[::1]x",
            "a:b",
            "::1",
            "localhost:x",
        ] {
            assert!(!hosts.allow(host), "{host}");
        }
    }
}
