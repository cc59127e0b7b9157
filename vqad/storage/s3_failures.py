"""The exceptions of the S3 client, each mapped to one of a few fixed sentences.

Importing this module loads the client's libraries, which takes half a second: `retries` does so
only where they are loaded already, so that work on local files needs none of them.
"""

import re

import aiohttp
from botocore import exceptions as boto

from vqad.storage.failure import BROKEN, PRECONDITION_FAILED, Failure
from vqad.storage.uris import endpoint

_UNREACHED = (
    boto.EndpointConnectionError,
    boto.ConnectTimeoutError,
    boto.ProxyConnectionError,
    boto.SSLError,
)
_BROKEN = (
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    aiohttp.ClientError,
)
_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
)
_BUSY_CODES = frozenset({"SlowDown", "RequestTimeout", "ServiceUnavailable", "InternalError"})
_CODE = re.compile("[A-Za-z0-9.]{1,64}")
_WRONG_KEY_CODES = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


def explain(error: BaseException) -> Failure | None:
    """The reason of an exception of the client; None for one of anything else."""
    answer = error if isinstance(error, boto.ClientError) else error.__cause__
    if isinstance(answer, boto.ClientError):
        return _explain_answer(answer)
    if isinstance(error, _NO_CREDENTIALS):
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return Failure(error="denied", detail="no credentials", remedy=remedy)
    if isinstance(error, _UNREACHED):
        return Failure(
            error="fetch_failed",
            detail="the endpoint cannot be reached",
            remedy=f"it is {endpoint() or 'AWS'}; check AWS_ENDPOINT_URL and the network",
            is_transient=True,
        )
    if isinstance(error, _BROKEN):
        return BROKEN
    if isinstance(error, boto.BotoCoreError):
        detail = f"the S3 client refuses with {type(error).__name__}"
        return Failure(error="fetch_failed", detail=detail, remedy="check the AWS settings")
    return None


def _explain_answer(answer: boto.ClientError) -> Failure:
    code = str(answer.response.get("Error", {}).get("Code", ""))
    code = code if _CODE.fullmatch(code) else ""  # a broken store may answer with a whole page
    status = int(answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        remedy = "check its name, or create it"
        return Failure(error="missing", detail="no such bucket", remedy=remedy)
    if status == 412:
        remedy = "let nothing else write there"
        return Failure(error="fetch_failed", detail=PRECONDITION_FAILED, remedy=remedy)
    if status == 404:
        return Failure(error="missing", detail="no such object", remedy="check the name")
    if code in _WRONG_KEY_CODES:
        remedy = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return Failure(error="denied", detail=f"access denied ({code})", remedy=remedy)
    if status in (401, 403):
        remedy = "check the permissions of the key in AWS_ACCESS_KEY_ID"
        return Failure(error="denied", detail="access denied", remedy=remedy)
    is_transient = status >= 500 or status == 429 or code in _BUSY_CODES
    return Failure(
        error="fetch_failed",
        detail=f"the store answered {code or status}",
        remedy="try again later" if is_transient else "check AWS_ENDPOINT_URL and AWS_REGION",
        is_transient=is_transient,
    )
