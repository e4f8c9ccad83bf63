//! Names that are not in the table: those that httpd has and we have not, each with what to do instead, and those that
//! are misspelled.

/// The name in the list that was probably meant by `wrong`, if one is near enough. Case does not count.
pub(super) fn near_miss<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    // A third of the letters may be wrong, three at most: more is a guess that misleads.
    let tolerance = (wrong.chars().count() / 3).clamp(1, 3);
    names
        .into_iter()
        .map(|name| (distance(&wrong, &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters have to be inserted, dropped, changed or swapped with their neighbour to make `b` of `a` (optimal
/// string alignment).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut least = (at(&last, j) + usize::from(x != *y))
                .min(at(&last, j + 1) + 1)
                .min(left + 1);
            if j > 0 && previous == Some(*y) && b.get(j - 1) == Some(&x) {
                least = least.min(at(&before_last, j - 1) + 1);
            }
            row.push(least);
            left = least;
        }
        before_last = std::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or_default()
}

/// What to do about a directive or section (in angle brackets, ) of httpd that this version does not have.
pub(super) fn unsupported(name: &str) -> Option<&'static str> {
    UNSUPPORTED
        .iter()
        .find(|(names, _)| {
            names
                .split(' ')
                .any(|known| known.eq_ignore_ascii_case(name))
        })
        .map(|(_, hint)| *hint)
}

/// Names, separated by blanks, and what to do.
const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "RewriteMap",
        "maps are not supported; write a RewriteRule for each key, or a RewriteCond with a pattern",
    ),
    (
        "RewriteBase",
        "there are no rules of directories in this program; write the whole path in RewriteRule",
    ),
    (
        "ProxyHTMLEnable ProxyHTMLURLMap",
        "bodies of answers pass as they are; let the application write the addresses that clients see",
    ),
    (
        "ProxyRemote ProxyRemoteMatch NoProxy ProxyDomain AllowCONNECT",
        "there is no forward proxy in this program; remove the line",
    ),
    (
        "ProxyBlock",
        "the configuration alone says which backends there are, so there is none to block; remove the line, or write \
         Require all denied in a <Proxy> with the URL",
    ),
    (
        "ProxyHCExpr",
        "expressions are not supported: an answer of 200 to 399 passes a health check; let hcuri= name a place whose \
         status says how the member is, and remove the line",
    ),
    (
        "<DirectoryMatch> Options AllowOverride AccessFileName \
         Alias AliasMatch ScriptAlias ScriptAliasMatch UserDir AddHandler TypesConfig \
         DefaultType ForceType MimeMagicFile AddDefaultCharset IndexOptions AddIcon AddIconByType AddIconByEncoding \
         FileETag EnableSendfile EnableMMAP AddOutputFilterByType SetOutputFilter ExpiresActive ExpiresByType",
        "this program serves no files; remove it, or leave the files to another server",
    ),
    (
        "HeartbeatStorage HeartbeatListen HeartbeatAddress HeartbeatMaxServers",
        "members send no reports by multicast; remove the line, and write lbmethod=bybusyness",
    ),
    (
        "Redirect RedirectMatch RedirectPermanent",
        "this program gives no answers of its own but errors; leave redirects and pages to another server",
    ),
    (
        "<Limit> <LimitExcept>",
        "not supported by this version: a rule counts for all methods; write Require method in <Location>",
    ),
    (
        "AuthType AuthName AuthUserFile AuthGroupFile AuthBasicProvider AuthMerging",
        "clients are not asked for passwords; Require can permit by address, method and environment",
    ),
    (
        "SetEnvIfExpr",
        "expressions are not supported; write SetEnvIf with a header field, Request_URI, Remote_Addr or another of its \
         attributes",
    ),
    (
        "ProxyStatus ProxyAsyncDelay ProxyAsyncIdleTimeout",
        "not supported by this version; remove the line",
    ),
    (
        "SSLCACertificatePath",
        "folders of certificates are not supported; write all of them into one file, as by \"cat FOLDER/*.pem\", and name it \
         in SSLCACertificateFile",
    ),
    (
        "SSLCADNRequestFile SSLCADNRequestPath",
        "clients are told the names of the authorities in SSLCACertificateFile, and no others; remove the line",
    ),
    (
        "SSLCARevocationFile SSLCARevocationPath SSLCARevocationCheck SSLOCSPEnable SSLOCSPDefaultResponder \
         SSLOCSPOverrideResponder SSLOCSPResponderTimeout SSLOCSPResponseMaxAge SSLOCSPResponseTimeSkew \
         SSLOCSPUseRequestNonce SSLOCSPProxyURL SSLOCSPNoverify SSLOCSPResponderCertificateFile",
        "not supported: whether a client's certificate was revoked is not looked up, so that a line which asks for it cannot \
         be obeyed; issue certificates for short times, or of an authority of their own, and remove the line",
    ),
    (
        "SSLSessionTicketKeyFile",
        "not supported: the keys of tickets are made at start and told nobody, so that several machines do not share them; \
         remove the line",
    ),
    (
        "SSLSRPVerifierFile SSLSRPUnknownUserSeed",
        "passwords in TLS (SRP) are not supported; clients can be asked for certificates by SSLVerifyClient",
    ),
    (
        "SSLRequire SSLRequireSSL SSLUserName",
        "not supported: a host speaks TLS with all its clients or with none, and asks them for certificates by \
         SSLVerifyClient; remove the line, and give what must not be reached without TLS a <VirtualHost> with SSLEngine On",
    ),
    (
        "SSLRenegBufferSize",
        "there is no renegotiation here; remove the line",
    ),
    (
        "SSLMutex SSLLog SSLLogLevel",
        "httpd has not had it since 2.2; remove the line",
    ),
    (
        "SSLProxyCARevocationFile SSLProxyCARevocationPath SSLProxyCARevocationCheck",
        "not supported: no lists of revoked certificates are read; remove the line, and let SSLProxyCACertificateFile \
         name authorities that you trust",
    ),
    (
        "SSLProxyMachineCertificatePath",
        "not supported: one certificate is shown to a backend; write SSLProxyMachineCertificateFile with its file, in the \
         <Proxy> of the backend if others have others",
    ),
    (
        "ChrootDir",
        "this program stays in the root folder that it was started in; RootDirectory= of its systemd unit gives it another one",
    ),
    (
        "ServerLimit ThreadLimit ThreadsPerChild StartServers MinSpareThreads MaxSpareThreads MinSpareServers \
         MaxSpareServers AsyncRequestWorkerFactor MaxConnectionsPerChild MaxRequestsPerChild \
         Mutex LockFile AcceptFilter AcceptMutex ScoreBoardFile DefaultRuntimeDir \
         CoreDumpDirectory EnableExceptionHook",
        "this is one process with one pool of workers; remove the line and set MaxRequestWorkers",
    ),
    (
        "LimitInternalRecursion",
        "there are no internal redirections in this program; remove the line",
    ),
    (
        "HostnameLookups IdentityCheck UseCanonicalPhysicalPort ServerPath ContentDigest ExtendedStatus",
        "it has no meaning in this program; remove the line",
    ),
    (
        "ErrorLogFormat CookieLog BufferedLogs GlobalLog LogIOTrackTTFB LogLevelOverride",
        "not supported by this version; CustomLog and ErrorLog write lines as they are told",
    ),
    (
        "HttpProtocolOptions ProtocolsHonorOrder MergeSlashes StrictHostCheck",
        "not supported by this version: HTTP/1.1 is always read strictly; remove the line",
    ),
    (
        "NameVirtualHost",
        "every <VirtualHost> is chosen by name; remove the line",
    ),
    (
        "<If> <ElseIf> <Else>",
        "expressions are not supported; decide at start with <IfDefine> instead",
    ),
    (
        "<IfVersion> <IfDirective> <IfSection>",
        "not supported by this version; use <IfDefine>, <IfModule> or <IfFile>",
    ),
    (
        "<Macro> Use UndefMacro",
        "macros are not supported; use Define and ${NAME}",
    ),
    (
        "ReceiveBufferSize SendBufferSize",
        "the kernel sizes its buffers by itself; remove the line",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_one_or_a_few_letters_away() {
        let names = ["ProxyPass", "ProxyTimeout", "Timeout", "Listen"];
        for (wrong, meant) in [
            ("ProxyPas", Some("ProxyPass")),
            ("porxypass", Some("ProxyPass")),
            ("Lisen", Some("Listen")),
            ("timout", Some("Timeout")),
            ("ProxyTimeuot", Some("ProxyTimeout")),
            ("Frobnicate", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(near_miss(wrong, names), meant, "{wrong}");
        }
    }

    #[test]
    fn a_swap_of_neighbours_is_one_step() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }

    #[test]
    fn names_of_httpd_are_found_in_any_case() {
        assert!(unsupported("rewritemap").is_some());
        assert!(unsupported("<limit>").is_some());
        assert!(unsupported("Frobnicate").is_none());
        assert!(unsupported("").is_none());
    }
}
