"""Gets a login to ECR Public with AWS's own client.

usage: ecr_public.py STS ECR ROLE_ARN

The web identity token stands on standard input. Answers with one line of JSON: the `login` as `user:password`, or
the `error` that was raised and its `message`.
"""

import base64
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

sts_url, ecr_url, role_arn = sys.argv[1:]
region = "us-east-1"
config = Config(retries={"max_attempts": 0})

try:
    sts = boto3.client("sts", region_name=region, endpoint_url=sts_url, config=config)
    session = sts.assume_role_with_web_identity(
        RoleArn=role_arn, RoleSessionName="peer", WebIdentityToken=sys.stdin.read().strip()
    )["Credentials"]
    ecr = boto3.client(
        "ecr-public",
        region_name=region,
        endpoint_url=ecr_url,
        config=config,
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )
    data = ecr.get_authorization_token()["authorizationData"]
    result = {"login": base64.b64decode(data["authorizationToken"]).decode()}
except ClientError as error:
    result = {"error": error.response["Error"]["Code"], "message": str(error)}
print(json.dumps(result))
