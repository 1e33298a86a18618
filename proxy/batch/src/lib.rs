//! The wire formats of records: uploads in, batches out.
