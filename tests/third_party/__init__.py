"""What others have written to test mail servers, let loose at ours: `make test-third-party`.

nmap's scripts, testssl.sh, sslscan and swaks speak to the real daemon (`tools`); aiosmtpd's own
test modules are run against our sessions (`aiosmtpd_suite`). docs/security.md has the results.
"""
