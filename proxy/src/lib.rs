//! An edge aggregation proxy: agents in front, the core behind, a hundredth of the requests between.
