//! Space, exact search, records.
