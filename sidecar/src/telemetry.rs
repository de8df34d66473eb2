//! What is told: metrics, access log, application log, recent decisions.
