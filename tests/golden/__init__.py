# SPDX-License-Identifier: Apache-2.0
"""Reference vectors and the adapters that recompute them."""
