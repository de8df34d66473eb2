//! The catalogue: every kind of refusal with its status, its title, what to do about it, and what RFC 9209 calls it.

use http::StatusCode;

/// What a kind of problem has in common with all of its kind.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its stable name: member `code`, metric label, and end of `type`.
    pub slug: &'static str,
    /// The status it is answered with.
    pub status: StatusCode,
    /// A few words; the same for every occurrence.
    pub title: &'static str,
    /// What is wrong, where an occurrence has nothing more exact to say.
    pub detail: &'static str,
    /// How to fix it, where an occurrence has nothing more exact to say.
    pub fix: &'static str,
    /// Error of `Proxy-Status`.
    pub proxy_error: &'static str,
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $code:ident = $slug:literal, $status:ident, $proxy_error:literal, $title:literal, $detail:literal, $fix:literal;)*) => {
        /// The kinds of problems.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$code,)*];
            /// Every slug, for metrics.
            pub const SLUGS: &'static [&'static str] = &[$($slug,)*];

            /// What all problems of this code have in common.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self {
                    $(Code::$code => Kind {
                        slug: $slug,
                        status: StatusCode::$status,
                        title: $title,
                        detail: $detail,
                        fix: $fix,
                        proxy_error: $proxy_error,
                    },)*
                }
            }
        }
    };
}

catalogue! {
    /// The request can be read in two ways.
    AmbiguousRequest = "ambiguous_request", BAD_REQUEST, "http_request_error",
        "Ambiguous request",
        "The request cannot be read, or two servers could read it in two ways.",
        "Send a request that follows RFC 9112: one Host, one length, a path without `//`, dot segments or encoded slashes.";
    /// Neither HTTP/1.1, HTTP/1.0 nor HTTP/2.
    VersionNotSupported = "version_not_supported", HTTP_VERSION_NOT_SUPPORTED, "http_request_error",
        "HTTP version not supported",
        "The request's first line names a version of HTTP that is not spoken here.",
        "Send the request in HTTP/1.1 or HTTP/2.";
    /// A first line that alone is more than a head may be.
    TargetTooLong = "target_too_long", URI_TOO_LONG, "http_request_error",
        "Request target too long",
        "The request's path and query are longer than the service accepts.",
        "Send a shorter path and query; the operator sets `request.header_bytes_max` in a SecurityPolicy.";
    /// More bytes or fields than a head may have.
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error",
        "Request head too large",
        "The request line and the header fields are larger, or more, than the service accepts.",
        "Send fewer or shorter header fields; the operator sets `request.header_bytes_max` and `request.headers_max` in a SecurityPolicy.";
    /// The head did not end in time.
    HeadTimeout = "head_timeout", REQUEST_TIMEOUT, "http_request_error",
        "Request head took too long",
        "The end of the request's head did not come in time.",
        "Send the head at once; the operator sets `request.head_timeout` in a SecurityPolicy.";
    /// The body stood still.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, "http_request_error",
        "Request body took too long",
        "The request's body stood still for too long, or came too slowly for the length it declares.",
        "Send the body without long pauses, at 256 bytes a second or more; the operator sets `request.body_idle_timeout` in a SecurityPolicy.";
    /// More bytes than a body may have.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "http_request_denied",
        "Request body too large",
        "The request's body is larger than the service accepts from this tenant.",
        "Send less at once; the operator sets `request.body_bytes_max` in a SecurityPolicy.";
    /// More bytes than a message of a gRPC call may have.
    MessageTooLarge = "message_too_large", PAYLOAD_TOO_LARGE, "http_request_denied",
        "gRPC message too large",
        "A message of the call is larger than the service passes on.",
        "Send or ask for less in one message; the operator sets `grpc_message_bytes_max` of the route.";
    /// Something other than 100-continue is expected.
    ExpectationFailed = "expectation_failed", EXPECTATION_FAILED, "http_request_denied",
        "Expectation not understood",
        "The request's Expect field asks for something that is not known here.",
        "Send `Expect: 100-continue` or no Expect at all (RFC 9110 section 10.1.1).";
    /// The answer names another tenant.
    TenantLeak = "tenant_leak", BAD_GATEWAY, "http_protocol_error",
        "Answer not delivered",
        "The service answered with what is not this tenant's, and it was not delivered.",
        "Tell the operator the decision id: `bulkhead explain` names the field of the answer.";
    /// Nobody can tell whose the answer is.
    TenantUnseen = "tenant_unseen", BAD_GATEWAY, "http_protocol_error",
        "Answer names no tenant",
        "The service did not say whose its answer is, and it was not delivered.",
        "Tell the operator the decision id: the route's `response_tenant` says where an answer must name its tenant.";
    /// HTTP in the clear where TLS is spoken.
    PlainOnTlsPort = "plain_on_tls_port", BAD_REQUEST, "http_request_error",
        "Plain HTTP on a TLS port",
        "This port speaks HTTPS, and the request came in the clear.",
        "Use `https://`; whatever was sent, credentials too, could be read on its way.";
    /// The host is nobody's.
    UnknownTenant = "unknown_tenant", NOT_FOUND, "http_request_denied",
        "Unknown tenant",
        "No tenant is served under this host.",
        "Check the host name; the operator lists a tenant's hosts in its Tenant document (`hosts`).";
    /// The path is nobody's.
    NoRoute = "no_route", NOT_FOUND, "http_request_denied",
        "No such route",
        "The service has no route for this path.",
        "Check the path: case and a trailing slash matter. The operator lists routes in the Service document.";
    /// A credential is needed.
    MissingCredential = "missing_credential", UNAUTHORIZED, "http_request_denied",
        "Credential missing",
        "This route asks for a credential and the request has none.",
        "Send `Authorization: Bearer` with a token of an issuer that the tenant trusts, or the tenant's API key.";
    /// The token proves nothing.
    InvalidToken = "invalid_token", UNAUTHORIZED, "http_request_denied",
        "Token not accepted",
        "The token does not prove who is asking.",
        "Get a fresh token from an issuer that the tenant trusts.";
    /// The API key proves nothing.
    InvalidApiKey = "invalid_api_key", UNAUTHORIZED, "http_request_denied",
        "API key not accepted",
        "The API key does not prove who is asking.",
        "Check the key; the operator makes a new one with `bulkhead api-key new`.";
    /// The certificate proves nobody of this tenant.
    CertificateNotAccepted = "certificate_not_accepted", FORBIDDEN, "http_request_denied",
        "Certificate not accepted",
        "The client's certificate is good, and proves nobody of this tenant.",
        "Use a certificate whose SPIFFE id the tenant declares under `spiffe` of an Identity, or send a token.";
    /// Naming and proof mean two tenants.
    OtherTenant = "other_tenant", FORBIDDEN, "http_request_denied",
        "Credential of another tenant",
        "The credential belongs to another tenant than the one the host names.",
        "Use the host of the tenant that issued the credential, or a credential of the tenant that the host names.";
    /// A page of another origin may not ask.
    CrossOriginRefused = "cross_origin_refused", FORBIDDEN, "http_request_denied",
        "Not for pages of other origins",
        "A page of another origin asks for what such pages may not do.",
        "The operator names origins, methods and headers under `cors` of a SecurityPolicy, exactly as browsers send them.";
    /// The tenant is known and not served.
    TenantSuspended = "tenant_suspended", FORBIDDEN, "http_request_denied",
        "Tenant suspended",
        "The tenant is not served at present.",
        "Ask the operator: the tenant's `state` is not `active`.";
    /// No rule allows it.
    NotPermitted = "not_permitted", FORBIDDEN, "http_request_denied",
        "Not permitted",
        "No role that the caller holds allows this request.",
        "Ask for a role that allows it; `bulkhead explain` with the decision id names the nearest rule.";
    /// A rule forbids it.
    DeniedByRule = "denied_by_rule", FORBIDDEN, "http_request_denied",
        "Denied by a rule",
        "A rule of a role that the caller holds denies this request, whatever else is allowed.",
        "Ask the operator; `bulkhead explain` with the decision id names the rule.";
    /// The tenant lacks a feature.
    FeatureRequired = "feature_required", FORBIDDEN, "http_request_denied",
        "Feature required",
        "The route demands a feature that the tenant does not have.",
        "Ask the operator to add the feature to the tenant or its plan.";
    /// A budget is used up.
    QuotaExceeded = "quota_exceeded", TOO_MANY_REQUESTS, "http_request_denied",
        "Quota exceeded",
        "A quota is used up.",
        "Wait as long as `Retry-After` says, or ask the operator for more.";
    /// Too many at once.
    TooManyInFlight = "too_many_requests_in_flight", TOO_MANY_REQUESTS, "http_request_denied",
        "Too many requests at once",
        "As many requests as allowed are being answered right now.",
        "Send the next request when an earlier one is answered, or ask the operator for more at once.";
    /// Somebody is guessing credentials.
    TooManyFailedAuthentications = "too_many_failed_authentications", TOO_MANY_REQUESTS, "http_request_denied",
        "Too many failed authentications",
        "Too many credentials from this address failed; new ones are not looked at for a moment.",
        "Wait a second, then send a credential that is valid.";
    /// The keys to verify with are not there.
    KeysUnavailable = "keys_unavailable", SERVICE_UNAVAILABLE, "destination_unavailable",
        "Keys unavailable",
        "The keys of the token's issuer are not available, so the token can be neither accepted nor refused.",
        "Try again soon; the operator finds the reason in `bulkhead status`.";
    /// The server that knows a token cannot be asked.
    IntrospectionUnavailable = "introspection_unavailable", SERVICE_UNAVAILABLE, "destination_unavailable",
        "Token not checked",
        "The server that knows the token cannot be asked, so the token can be neither accepted nor refused.",
        "Try again soon; the operator finds the reason in the log.";
    /// The tenant's documents cannot be served.
    PolicyHeld = "policy_held", SERVICE_UNAVAILABLE, "destination_unavailable",
        "Policy held back",
        "The tenant is known, but no version of its documents can be served.",
        "The operator finds the reason in `bulkhead status`.";
    /// This process has no place left.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "destination_unavailable",
        "Overloaded",
        "There is no room for this request right now.",
        "Try again soon.";
    /// The upstream has as much to do as it may.
    UpstreamOverloaded = "upstream_overloaded", SERVICE_UNAVAILABLE, "connection_limit_reached",
        "Upstream overloaded",
        "The service behind this proxy is answering as many requests at once as it may.",
        "Try again in a moment; the operator sets `limits` and `adaptive_concurrency` of the upstream.";
    /// The upstream cannot be reached.
    UpstreamUnreachable = "upstream_unreachable", BAD_GATEWAY, "destination_unavailable",
        "Upstream unreachable",
        "The service behind this proxy cannot be reached.",
        "Try again soon; the operator finds the failed step in the log.";
    /// The upstream does not answer.
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT, "http_response_timeout",
        "Upstream too slow",
        "The service behind this proxy did not answer in time.",
        "Try again soon; the operator sets `response_timeout` of the upstream.";
    /// The client's own deadline is over.
    DeadlineExceeded = "deadline_exceeded", GATEWAY_TIMEOUT, "http_response_timeout",
        "Deadline exceeded",
        "The service behind this proxy did not finish within the time that the client gave.",
        "Give the call more time (`grpc-timeout`), or ask the operator why the service is slow.";
    /// The upstream's answer cannot be understood.
    UpstreamProtocol = "upstream_protocol", BAD_GATEWAY, "http_protocol_error",
        "Upstream broke off",
        "The service behind this proxy broke off, or its answer cannot be understood.",
        "Try again soon; the operator finds the failed step in the log.";
    /// A defect of ours.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR, "proxy_internal_error",
        "Internal error",
        "A defect of this proxy; the request was not completed.",
        "Report it with the decision id; the log has the details.";
}

impl Code {
    /// The code of this name.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Code> {
        Self::ALL.iter().copied().find(|code| code.kind().slug == slug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_problem_has_words_of_its_own_and_a_status_that_is_an_error() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            let kind = code.kind();
            assert!(seen.insert(kind.slug) && seen.insert(kind.title), "{} stands twice", kind.slug);
            assert!(kind.status.is_client_error() || kind.status.is_server_error(), "{}", kind.slug);
            assert!(kind.slug.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", kind.slug);
            for sentence in [kind.detail, kind.fix] {
                assert!(sentence.ends_with('.') && sentence.len() > 10, "{}: {sentence}", kind.slug);
            }
            assert_eq!(Code::from_slug(kind.slug), Some(*code));
        }
    }
}
