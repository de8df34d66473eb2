//! Every refusal: problem type, status, what, where and how to fix it (RFC 9457).
