"""The wallet's page, driven by a browser on each store; one wallet serves all tests of this folder."""
